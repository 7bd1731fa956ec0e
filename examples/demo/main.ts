/**
 * The demo: a server that answers questions about the packages installed here, asked 2,000 times, first without Funnel
 * and then with it.
 *
 *     npm run demo
 *     npm run demo -- --rate 50 --requests 300
 *     npm run demo -- --connections unbounded
 *     npm run demo -- --processes 4
 *     npm run demo -- --dashboard
 *     npm run demo -- --help
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Effect } from "effect"
import { CliConfig, Command, GlobalFlag } from "effect/cli"
import { command } from "./command.ts"

command.pipe(
  Command.run({ version: "0.1.0" }),
  Effect.provide([NodeServices.layer, CliConfig.layer({ builtIns: [GlobalFlag.Help] })]),
  NodeRuntime.runMain
)
