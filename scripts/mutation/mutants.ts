/**
 * Finds the mutants of a module, and compiles all of them into it behind a switch.
 *
 * `$m(7)` is true if mutant 7 is active, so a process that has loaded the tests once can try one mutant after another.
 *
 * The mutators are Stryker's, without strings. Stryker treats string literals as behaviour; here they are messages.
 */
import ts from "typescript"

/** Identifies a mutant even if its line moves. */
export interface Identity {
  /** Path below `src`. */
  readonly file: string
  /** The named declarations around it, from the outermost to the innermost. */
  readonly within: string
  readonly code: string
  readonly mutation: string
}

export interface Mutant extends Identity {
  readonly line: number
}

interface Site {
  readonly node: ts.Node
  /** The replacement text for the node, or `undefined` for a removed statement. */
  readonly text: string | undefined
  readonly mutant: Mutant
}

const swapped: Readonly<Partial<Record<ts.SyntaxKind, ReadonlyArray<string>>>> = {
  [ts.SyntaxKind.LessThanToken]: ["<=", ">="],
  [ts.SyntaxKind.LessThanEqualsToken]: ["<", ">"],
  [ts.SyntaxKind.GreaterThanToken]: [">=", "<="],
  [ts.SyntaxKind.GreaterThanEqualsToken]: [">", "<"],
  [ts.SyntaxKind.EqualsEqualsToken]: ["!="],
  [ts.SyntaxKind.ExclamationEqualsToken]: ["=="],
  [ts.SyntaxKind.EqualsEqualsEqualsToken]: ["!=="],
  [ts.SyntaxKind.ExclamationEqualsEqualsToken]: ["==="],
  [ts.SyntaxKind.AmpersandAmpersandToken]: ["||"],
  [ts.SyntaxKind.BarBarToken]: ["&&"],
  [ts.SyntaxKind.QuestionQuestionToken]: ["&&"],
  [ts.SyntaxKind.PlusToken]: ["-"],
  [ts.SyntaxKind.MinusToken]: ["+"],
  [ts.SyntaxKind.AsteriskToken]: ["/"],
  [ts.SyntaxKind.SlashToken]: ["*"],
  [ts.SyntaxKind.PercentToken]: ["*"],
  [ts.SyntaxKind.PlusEqualsToken]: ["-="],
  [ts.SyntaxKind.MinusEqualsToken]: ["+="],
  [ts.SyntaxKind.AsteriskEqualsToken]: ["/="],
  [ts.SyntaxKind.SlashEqualsToken]: ["*="],
  [ts.SyntaxKind.QuestionQuestionEqualsToken]: ["&&="],
  [ts.SyntaxKind.BarBarEqualsToken]: ["&&="],
  [ts.SyntaxKind.AmpersandAmpersandEqualsToken]: ["||="]
}

/** Operators that produce a condition: they are also replaced by `true` and by `false`. */
const isCondition = (kind: ts.SyntaxKind): boolean =>
  (kind >= ts.SyntaxKind.LessThanToken && kind <= ts.SyntaxKind.GreaterThanEqualsToken) ||
  (kind >= ts.SyntaxKind.EqualsEqualsToken && kind <= ts.SyntaxKind.ExclamationEqualsEqualsToken) ||
  kind === ts.SyntaxKind.AmpersandAmpersandToken || kind === ts.SyntaxKind.BarBarToken

const methods: ReadonlyMap<string, string> = new Map([
  ["every", "some"],
  ["some", "every"],
  ["min", "max"],
  ["max", "min"],
  ["startsWith", "endsWith"],
  ["endsWith", "startsWith"],
  ["toUpperCase", "toLowerCase"],
  ["toLowerCase", "toUpperCase"]
])
/** Methods that are removed from a chain, which leaves their receiver. */
const removed = new Set(["filter", "reverse", "slice", "sort", "toReversed", "toSorted", "trim"])

const short = (text: string): string => {
  const line = text.replaceAll(/\s+/g, " ").trim()
  return line.length <= 100 ? line : `${line.slice(0, 99)}…`
}

const skipOuter = (node: ts.Node): ts.Node =>
  ts.isParenthesizedExpression(node) || ts.isNonNullExpression(node) || ts.isAsExpression(node)
    ? skipOuter(node.expression)
    : node

const isText = (node: ts.Node): boolean => {
  const inner = skipOuter(node)
  return ts.isStringLiteralLike(inner) || ts.isTemplateExpression(inner) ||
    (ts.isBinaryExpression(inner) && (isText(inner.left) || isText(inner.right)))
}

/** Positions that cannot hold a parenthesized switch: assignment targets, and callees that give a call its `this`. */
const isBound = (node: ts.Node): boolean => {
  const { parent } = node
  if (ts.isParenthesizedExpression(parent) || ts.isNonNullExpression(parent) || ts.isAsExpression(parent)) {
    return isBound(parent)
  }
  if (ts.isBinaryExpression(parent)) {
    return parent.left === node && parent.operatorToken.kind >= ts.SyntaxKind.FirstAssignment &&
      parent.operatorToken.kind <= ts.SyntaxKind.LastAssignment
  }
  return ((ts.isCallExpression(parent) || ts.isNewExpression(parent)) && parent.expression === node) ||
    ts.isDeleteExpression(parent) || (ts.isTaggedTemplateExpression(parent) && parent.tag === node) ||
    ((ts.isForOfStatement(parent) || ts.isForInStatement(parent)) && parent.initializer === node) ||
    ts.isExpressionWithTypeArguments(parent)
}

const nameOf = (node: ts.Node): string | undefined => {
  if (ts.isConstructorDeclaration(node)) return "constructor"
  const named = ts.isFunctionLike(node) || ts.isClassLike(node) || ts.isVariableDeclaration(node) ||
    ts.isPropertyAssignment(node) || ts.isPropertyDeclaration(node)
  return named && node.name !== undefined && !ts.isObjectBindingPattern(node.name) &&
      !ts.isArrayBindingPattern(node.name)
    ? node.name.getText()
    : undefined
}

const within = (node: ts.Node): string => {
  const names: Array<string> = []
  for (let at = node.parent; at !== undefined; at = at.parent) {
    const name = nameOf(at)
    if (name !== undefined) names.unshift(name)
  }
  return names.join(".")
}

const hasSuper = (node: ts.Node): boolean =>
  node.kind === ts.SyntaxKind.SuperKeyword || (ts.forEachChild(node, hasSuper) ?? false)

/** Returns every mutant of a module, in source order. */
export const sitesOf = (file: string, source: ts.SourceFile): ReadonlyArray<Site> => {
  const sites: Array<Site> = []
  const add = (node: ts.Node, text: string | undefined, told: string = text ?? "removed") => {
    const { line } = source.getLineAndCharacterOfPosition(node.getStart())
    const mutant = { file, within: within(node), code: short(node.getText()), mutation: short(told), line: line + 1 }
    sites.push({ node, text, mutant })
  }
  const condition = (node: ts.Expression, values: ReadonlyArray<string>) => {
    const inner = skipOuter(node)
    // A comparison is replaced where it stands; a literal by its own mutator.
    if (inner.kind === ts.SyntaxKind.TrueKeyword || inner.kind === ts.SyntaxKind.FalseKeyword) return
    if (ts.isBinaryExpression(inner) && isCondition(inner.operatorToken.kind)) return
    for (const value of values) add(node, value)
  }
  const replace = (node: ts.Node, part: ts.Node, text: string): string => {
    const start = node.getStart()
    const whole = node.getText()
    return whole.slice(0, part.getStart() - start) + text + whole.slice(part.end - start)
  }

  const visit = (node: ts.Node): void => {
    if (
      ts.isTypeNode(node) && !ts.isExpressionWithTypeArguments(node) || ts.isInterfaceDeclaration(node) ||
      ts.isTypeAliasDeclaration(node) || ts.isImportDeclaration(node) || ts.isExportDeclaration(node) ||
      ts.isModuleDeclaration(node)
    ) return
    if (ts.canHaveModifiers(node) && ts.getModifiers(node)?.some((_) => _.kind === ts.SyntaxKind.DeclareKeyword)) return

    if (ts.isIfStatement(node)) condition(node.expression, ["true", "false"])
    else if (ts.isWhileStatement(node) || ts.isDoStatement(node)) condition(node.expression, ["false"])
    else if (ts.isForStatement(node) && node.condition) condition(node.condition, ["false"])
    else if (ts.isConditionalExpression(node)) condition(node.condition, ["true", "false"])
    else if (ts.isBinaryExpression(node)) {
      const { kind } = node.operatorToken
      const arithmetic = kind === ts.SyntaxKind.PlusToken || kind === ts.SyntaxKind.PlusEqualsToken
      const inLoop = ts.isWhileStatement(node.parent) || ts.isDoStatement(node.parent) || ts.isForStatement(node.parent)
      if (!isBound(node)) {
        if (isCondition(kind)) { for (const value of inLoop ? ["false"] : ["true", "false"]) add(node, value) }
        if (!(arithmetic && (isText(node.left) || isText(node.right)))) {
          for (const text of swapped[kind] ?? []) {
            const left = node.left.getText()
            const right = node.right.getText()
            const mixed = kind === ts.SyntaxKind.QuestionQuestionToken || text === "||" || text === "&&"
            add(
              node,
              mixed ? `(${left}) ${text} (${right})` : replace(node, node.operatorToken, text),
              `${left} ${text} ${right}`
            )
          }
        }
      }
    } else if (ts.isPrefixUnaryExpression(node) && !isBound(node)) {
      const operand = node.operand.getText()
      if (node.operator === ts.SyntaxKind.PlusPlusToken) add(node, `--${operand}`)
      else if (node.operator === ts.SyntaxKind.MinusMinusToken) add(node, `++${operand}`)
      else if (!(ts.isNumericLiteral(node.operand) && node.operand.text === "0")) add(node, operand)
    } else if (ts.isPostfixUnaryExpression(node)) {
      add(node, node.operand.getText() + (node.operator === ts.SyntaxKind.PlusPlusToken ? "--" : "++"))
    } else if (node.kind === ts.SyntaxKind.TrueKeyword) add(node, "false")
    else if (node.kind === ts.SyntaxKind.FalseKeyword) add(node, "true")
    else if (ts.isArrayLiteralExpression(node) && node.elements.length > 0 && !isBound(node)) add(node, "[]")
    else if (ts.isObjectLiteralExpression(node) && node.properties.length > 0 && !isBound(node)) add(node, "{}")
    else if (ts.isBlock(node) && node.statements.length > 0) {
      const constructs = ts.isConstructorDeclaration(node.parent) && hasSuper(node)
      const owned = ts.isFunctionLike(node.parent) || ts.isStatement(node.parent) || ts.isCatchClause(node.parent)
      if (!constructs && owned) {
        add(node, undefined, "{}")
      }
    } else if (ts.isExpressionStatement(node)) {
      const inner = skipOuter(node.expression)
      const call = ts.isYieldExpression(inner) || ts.isAwaitExpression(inner) || ts.isVoidExpression(inner)
        ? inner.expression
        : inner
      const calls = call !== undefined && ts.isCallExpression(call) &&
        call.expression.kind !== ts.SyntaxKind.SuperKeyword
      if (calls) add(node, undefined)
    } else if (ts.isReturnStatement(node) && node.expression) {
      const { kind } = skipOuter(node.expression)
      const literal = kind === ts.SyntaxKind.TrueKeyword || kind === ts.SyntaxKind.FalseKeyword
      if (!literal && node.expression.getText() !== "undefined") add(node.expression, "undefined", "return undefined")
    } else if (ts.isArrowFunction(node) && !ts.isBlock(node.body)) {
      const { kind } = skipOuter(node.body)
      const literal = kind === ts.SyntaxKind.TrueKeyword || kind === ts.SyntaxKind.FalseKeyword
      if (!literal && !["undefined", "void 0"].includes(node.body.getText())) {
        add(node.body, "undefined", "() => undefined")
      }
    }
    if (
      ts.isOptionalChain(node) && !ts.isOptionalChain(node.parent) && !ts.isNonNullChain(node.parent) && !isBound(node)
    ) {
      for (let at: ts.Node = node; ts.isOptionalChain(at); at = at.expression) {
        if (!ts.isNonNullChain(at) && at.questionDotToken) {
          const member = ts.isPropertyAccessExpression(at)
          add(node, replace(node, at.questionDotToken, member ? "." : ""))
        }
      }
    }
    if (
      ts.isCallExpression(node) && ts.isPropertyAccessExpression(node.expression) && !ts.isOptionalChain(node) &&
      !isBound(node)
    ) {
      const { expression: receiver, name } = node.expression
      // `Math.min` is swapped too, although a function of a module, such as `Effect.filter`, is not.
      const isModule = ts.isIdentifier(receiver) && /^[A-Z]/.test(receiver.text)
      const other = methods.get(name.text)
      if (other !== undefined && (!isModule || receiver.getText() === "Math")) add(node, replace(node, name, other))
      if (removed.has(name.text) && !isModule) add(node, receiver.getText())
    }
    ts.forEachChild(node, visit)
  }
  visit(source)
  return sites
}

/** Returns the text of a module with its numbered mutants compiled in. */
export const instrument = (
  source: ts.SourceFile,
  sites: ReadonlyArray<Site>,
  numberOf: (site: Site) => number | undefined
) => {
  const byNode = new Map<ts.Node, Array<{ readonly number: number; readonly site: Site }>>()
  for (const site of sites) {
    const number = numberOf(site)
    if (number === undefined) continue
    const list = byNode.get(site.node)
    if (list === undefined) byNode.set(site.node, [{ number, site }])
    else list.push({ number, site })
  }
  const text = source.text
  const emit = (node: ts.Node, from: number): string => {
    let at = from
    let out = ""
    ts.forEachChild(node, (child) => {
      const start = child.getStart(source)
      if (start < at) return
      const printed = print(child)
      // The statement before may end without a semicolon.
      const listed = ts.isBlock(node) || ts.isSourceFile(node) || ts.isCaseOrDefaultClause(node)
      out += text.slice(at, start) + (listed && ts.isStatement(child) && /^[([`]/.test(printed) ? ";" : "") + printed
      at = child.end
    })
    return out + text.slice(at, node.end)
  }
  const print = (node: ts.Node): string => {
    const plain = emit(node, node.getStart(source))
    const own = byNode.get(node)
    if (own === undefined) return plain
    if (ts.isBlock(node)) return `{if(!$m(${own[0]!.number}))${plain}}`
    if (ts.isStatement(node)) return `{if(!$m(${own[0]!.number})){${plain}\n}}`
    const branches = own.map(({ number, site }) => `$m(${number})?(${site.text}):`).join("")
    return `(${branches}(${plain}))`
  }
  return byNode.size === 0 ? text : `const $m=globalThis.$mutant;${emit(source, 0)}`
}
