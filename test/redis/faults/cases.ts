/**
 * The faults. Each case bounds the lost calls, the distinct results, the extra runs and the delays.
 */
import assert from "node:assert/strict"
import { availableParallelism, loadavg } from "node:os"
import type { RedisServer } from "../../support/redisServer.ts"
import { clock, pause, type Shared, type Stage, type Worker } from "./harness.ts"

/** A row of the table. */
export interface Facts {
  readonly runs?: number
  readonly most?: number
  readonly results?: number
  readonly failures?: number
  /** The delay that the note describes, in milliseconds. */
  readonly delay?: number
  readonly note?: string
}

export interface Case {
  readonly id: string
  readonly name: string
  /** Part of `npm test`, because it takes a second or two. */
  readonly quick?: boolean | undefined
  readonly run: (stage: Stage) => Promise<Facts>
}

const facts = (stage: Stage, shared: ReadonlyArray<Shared>, more: Facts = {}): Facts => ({
  runs: stage.observer.runs.length,
  most: stage.observer.most,
  results: new Set(shared.flatMap((_) => _.values)).size,
  failures: shared.flatMap((_) => _.errors).length,
  ...more
})

const served = (shared: ReadonlyArray<Shared>, calls: number) => {
  assert.deepEqual(shared.flatMap((_) => _.errors), [], "no call fails")
  assert.equal(shared.reduce((sum, _) => sum + _.ok, 0), calls, "every call is served")
}

const oneResult = (shared: ReadonlyArray<Shared>) =>
  assert.equal(new Set(shared.flatMap((_) => _.values)).size, 1, "all get one result")

const atMost = (what: string, value: number, most: number) =>
  assert.ok(value <= most, `${what}: ${value.toFixed(1)} is more than ${most}`)

/** How many times as long a process takes as on a machine of its own. */
const load = () => Math.max(1, loadavg()[0]! / availableParallelism())

/** What the machine may add to a bound of the protocol, in milliseconds. */
const noise = () => 400 * load()

const patient = { outageBudget: "20 seconds" }

/** A leader and a follower of one key. The follower has asked the server when this returns. */
const pair = async (
  stage: Stage,
  server: RedisServer,
  reducer: object,
  millis: number
): Promise<{ a: Worker; b: Worker; first: Promise<Shared>; second: Promise<Shared> }> => {
  const [a, b] = await stage.workersOf(2, { url: server.url, reducer }) as [Worker, Worker]
  const first = a.share({ key: "k", millis })
  first.catch(() => {})
  await stage.observer.began(1)
  const second = b.share({ key: "k", millis })
  second.catch(() => {})
  const until = clock() + millis
  while (!(await server.command("KEYS", "*:w")).startsWith("*1") && clock() < until) await pause(5)
  return { a, b, first, second }
}

/** Something happens to Redis while a leader and a follower share a key. Both are served. */
const disturbed = (id: string, name: string, options: {
  readonly quick?: boolean
  readonly reducer: object
  readonly millis: number
  /** So many runs, one after the other, with one result; at most 2 by default. */
  readonly runs?: number
  readonly disturb: (server: RedisServer) => Promise<unknown>
}): Case => ({
  id,
  name,
  quick: options.quick,
  run: async (stage) => {
    const server = await stage.redis()
    const { first, second } = await pair(stage, server, options.reducer, options.millis)
    await options.disturb(server)
    const at = clock()
    const shared = await Promise.all([first, second])
    served(shared, 2)
    if (options.runs === undefined) {
      atMost("runs", stage.observer.runs.length, 2)
    } else {
      oneResult(shared)
      assert.deepEqual([stage.observer.runs.length, stage.observer.most], [options.runs, 1])
    }
    return facts(stage, shared, { delay: clock() - at, note: "after the disturbance" })
  }
})

export const cases: ReadonlyArray<Case> = [
  {
    id: "1",
    name: "kill -9 of the leader",
    quick: true,
    run: async (stage) => {
      const server = await stage.redis()
      const { a, second } = await pair(stage, server, { lease: "600 millis" }, 300)
      a.kill("SIGKILL")
      const at = clock()
      const { at: began } = await stage.observer.began(2)
      const shared = [await second]
      served(shared, 1)
      assert.equal(stage.observer.runs.length, 2)
      assert.equal(stage.observer.most, 1)
      atMost("take-over", began - at, 600 + noise())
      return facts(stage, shared, { delay: began - at, note: "until the follower leads; lease 600" })
    }
  },
  {
    id: "2",
    name: "SIGSTOP of the leader past its lease, then SIGCONT",
    quick: true,
    run: async (stage) => {
      const server = await stage.redis()
      const { a, first, second } = await pair(stage, server, { lease: "500 millis" }, 700)
      a.kill("SIGSTOP")
      const frozen = clock()
      await stage.observer.began(2)
      const delay = clock() - frozen
      await pause(300)
      a.kill("SIGCONT")
      const shared = await Promise.all([first, second])
      served(shared, 2)
      oneResult(shared)
      assert.equal(stage.observer.runs.length, 2)
      assert.equal(stage.observer.most, 2)
      atMost("take-over", delay, 500 + noise())
      return facts(stage, shared, { delay, note: "until the follower leads; lease 500" })
    }
  },
  {
    id: "2b",
    name: "SIGSTOP of the leader until its successor is done",
    run: async (stage) => {
      const server = await stage.redis()
      const { a, first, second } = await pair(stage, server, { lease: "500 millis" }, 300)
      a.kill("SIGSTOP")
      const after = await second
      a.kill("SIGCONT")
      const shared = [await first, after]
      served(shared, 2)
      oneResult(shared)
      assert.equal(stage.observer.runs.length, 2)
      return facts(stage, shared)
    }
  },
  disturbed("3a", "Redis killed and restarted empty, within the lease", {
    reducer: { lease: "3 seconds", ...patient },
    millis: 1500,
    disturb: async (server) => {
      await server.stop()
      await pause(200)
      await server.start()
    }
  }),
  disturbed("3b", "Redis killed and restarted empty, after the lease", {
    reducer: { lease: "1500 millis", ...patient },
    millis: 3000,
    runs: 2,
    disturb: async (server) => {
      await server.stop()
      await pause(3000)
      await server.start()
    }
  }),
  disturbed("4", "FLUSHALL during a run", {
    quick: true,
    reducer: { lease: "900 millis" },
    millis: 800,
    disturb: (server) => server.command("FLUSHALL")
  }),
  disturbed("5", "SCRIPT FLUSH during a run", {
    reducer: { lease: "1500 millis" },
    millis: 2000,
    runs: 1,
    disturb: (server) => server.command("SCRIPT", "FLUSH")
  }),
  disturbed("6a", "CLIENT PAUSE shorter than the lease", {
    reducer: { lease: "2 seconds", ...patient },
    millis: 400,
    runs: 1,
    disturb: (server) => server.command("CLIENT", "PAUSE", "700", "ALL")
  }),
  disturbed("6b", "CLIENT PAUSE longer than the lease", {
    reducer: { lease: "1500 millis", ...patient },
    millis: 2500,
    runs: 2,
    disturb: (server) => server.command("CLIENT", "PAUSE", "3750", "ALL")
  }),
  ...(["pubsub", "normal"] as const).map((type, i): Case => ({
    id: `7${"ab"[i]}`,
    name: `CLIENT KILL TYPE ${type} in a loop`,
    run: async (stage) => {
      const server = await stage.redis()
      const workers = await stage.workersOf(3, { url: server.url, reducer: { lease: "2 seconds", ...patient } })
      const stop = new AbortController()
      const killing = (async () => {
        while (!stop.signal.aborted) {
          await server.command("CLIENT", "KILL", "TYPE", type, "SKIPME", "yes")
          await pause(150)
        }
      })()
      const shared: Array<Shared> = []
      const rounds = 12
      for (let i = 0; i < rounds; i++) {
        const round = await Promise.all(workers.map((_) => _.share({ key: `k${i}`, millis: 100, callers: 5 })))
        served(round, 15)
        shared.push(...round)
      }
      stop.abort()
      await killing
      // A process whose join was cut off may come after the run has ended, and then runs again.
      atMost("runs", stage.observer.runs.length, 3 * rounds)
      return facts(stage, shared, { note: `${rounds} rounds of 3 processes` })
    }
  })),
  {
    id: "8a",
    name: "Redis down from the start: local",
    run: async (stage) => {
      const url = await stage.nowhere()
      const workers = await stage.workersOf(2, {
        url,
        limiter: { onStoreError: "local", expectedProcesses: 2 },
        scheduler: { onStoreError: "local", expectedProcesses: 2 }
      })
      const at = clock()
      const shared = await Promise.all(workers.map((_) => _.share({ key: "k", millis: 100, callers: 100 })))
      const delay = clock() - at
      served(shared, 200)
      assert.equal(stage.observer.runs.length, 2)
      atMost("delay", delay, 100 + 1000 + 250 + noise())
      const again = clock()
      await workers[0]!.share({ key: "k", millis: 0 })
      atMost("delay of the next call", clock() - again, noise())
      const { errors, times } = await workers[0]!.call<{ errors: Array<string>; times: Array<number> }>("consume", {
        count: 50,
        millis: 5000
      })
      assert.deepEqual(errors, [])
      // At the full rate it would be 49 ms.
      const took = times.at(-1)! - times[0]!
      assert.ok(took >= 75, `49 intervals of this process' half of the rate took ${took} ms`)
      const jobs = await workers[0]!.call<Shared>("schedule", { count: 20, millis: 10 })
      assert.equal(jobs.ok, 20)
      return facts(stage, shared, { delay, note: "100 of run, 1000 of budget" })
    }
  },
  {
    id: "8b",
    name: "Redis down from the start: fail, allow",
    run: async (stage) => {
      const url = await stage.nowhere()
      const worker = await stage.worker({
        url,
        reducer: { onStoreError: "fail" },
        limiter: { onStoreError: "allow" }
      })
      const at = clock()
      const shared = await worker.share({ key: "k", millis: 100, callers: 100 })
      const delay = clock() - at
      assert.equal(shared.ok, 0)
      assert.deepEqual(new Set(shared.errors), new Set(["StoreError"]))
      assert.equal(stage.observer.runs.length, 0)
      atMost("delay", delay, 1000 + 250 + noise())
      const { errors, times } = await worker.call<{ errors: Array<string>; times: Array<number> }>("consume", {
        count: 50,
        millis: 5000
      })
      assert.deepEqual([errors.length, times.length], [0, 50])
      const jobs = await worker.call<Shared>("schedule", { count: 20, millis: 10 })
      assert.deepEqual([jobs.ok, new Set(jobs.errors)], [0, new Set(["StoreError"])])
      return facts(stage, [shared], { delay, note: "1000 of budget" })
    }
  },
  disturbed("9a", "SIGSTOP of redis-server, and callers that wait for it", {
    reducer: { lease: "6 seconds", ...patient },
    millis: 500,
    runs: 1,
    disturb: async (server) => {
      server.signal("SIGSTOP")
      await pause(2500)
      server.signal("SIGCONT")
    }
  }),
  {
    id: "9b",
    name: "SIGSTOP of redis-server, local at once",
    run: async (stage) => {
      const server = await stage.redis()
      const workers = await stage.workersOf(2, { url: server.url, reducer: { outageBudget: 0 } })
      server.signal("SIGSTOP")
      const at = clock()
      const shared = await Promise.all(workers.map((_) => _.share({ key: "k", millis: 100, callers: 10 })))
      const delay = clock() - at
      server.signal("SIGCONT")
      served(shared, 20)
      assert.equal(stage.observer.runs.length, 2)
      atMost("delay", delay, 100 + 1000 + noise())
      // The joins that timed out have led and been released, so nobody waits for them.
      const again = clock()
      served([await workers[0]!.share({ key: "k", millis: 0 })], 1)
      atMost("delay of the next call", clock() - again, 1000 + noise())
      return facts(stage, shared, { delay, note: "100 of run, 1000 of storeTimeout" })
    }
  },
  {
    id: "10a",
    name: "the server's clock steps forward by 30 s",
    run: async (stage) => {
      const stepped = stage.clock()
      const server = await stage.redis(stepped.environment)
      const late = await stage.worker({ url: server.url, reducer: { lease: "3 seconds" } })
      const { first, second } = await pair(stage, server, { lease: "3 seconds" }, 1500)
      stepped.step(30)
      // The clock shim reads the offset every few milliseconds.
      await pause(20)
      // The leader has not renewed yet: a caller that comes now finds an expired lease, and still runs when the leader renews.
      const third = late.share({ key: "k", millis: 1400 })
      await stage.observer.began(2)
      const shared = await Promise.all([first, second, third])
      served(shared, 3)
      oneResult(shared)
      assert.equal(stage.observer.runs.length, 2)
      assert.equal(stage.observer.most, 2, "the runs overlap")
      assert.ok(shared[0].values[0]!.startsWith(stage.observer.runs[1]!.id), "the result is the successor's")
      return facts(stage, shared, { note: "the runs overlap until the first leader renews" })
    }
  },
  {
    id: "10b",
    name: "the server's clock steps back by 30 s",
    run: async (stage) => {
      const stepped = stage.clock()
      const server = await stage.redis(stepped.environment)
      const { a, b, first, second } = await pair(stage, server, { lease: "800 millis" }, 1500)
      stepped.step(-30)
      const shared = await Promise.all([first, second])
      served(shared, 2)
      oneResult(shared)
      assert.equal(stage.observer.runs.length, 1)
      // A leader that dies after the step blocks the key for a lease, not for the step.
      a.doomed({ key: "dies", millis: 60_000 })
      await stage.observer.began(2)
      stepped.step(-60)
      // A step during a wait restarts the lease.
      await pause(50)
      a.kill("SIGKILL")
      const at = clock()
      served([await b.share({ key: "dies", millis: 0 })], 1)
      const delay = clock() - at
      atMost("take-over", delay, 800 + noise())
      const { errors, times } = await b.call<{ errors: Array<string>; times: Array<number> }>("consume", {
        count: 200,
        millis: 5000
      })
      stepped.step(-90)
      const more = await b.call<{ times: Array<number> }>("consume", { count: 200, millis: 5000 })
      assert.deepEqual(errors, [])
      const gap = more.times[0]! - times.at(-1)!
      atMost("the rate denies for", gap, 100 + noise())
      return facts(stage, shared, { delay, note: "take-over after a second step; lease 800" })
    }
  },
  {
    id: "11",
    name: "clocks of the processes an hour apart",
    run: async (stage) => {
      const { url } = await stage.redis()
      const ahead = stage.clock(3600)
      const behind = stage.clock(-3600)
      const options = { url, reducer: { lease: "600 millis" }, limiter: { rate: { limit: 500, window: "1 second" } } }
      const a = await stage.worker(options, ahead.environment)
      const b = await stage.worker(options, behind.environment)
      const apart = (await a.call<number>("wallClock")) - (await b.call<number>("wallClock"))
      assert.ok(apart > 7_100_000, "the clocks are apart")
      const first = a.share({ key: "k", millis: 900 })
      await stage.observer.began(1)
      const shared = await Promise.all([first, b.share({ key: "k", millis: 900 })])
      served(shared, 2)
      oneResult(shared)
      assert.equal(stage.observer.runs.length, 1)
      const { excess } = await rate([a, b], 500, 1000, 1, 150)
      atMost("excess", excess, 0)
      return facts(stage, shared, { note: `excess of the rate ${excess.toFixed(1)}` })
    }
  },
  {
    id: "12a",
    name: "the leader's last caller is interrupted",
    quick: true,
    run: async (stage) => {
      const server = await stage.redis()
      const { a, second } = await pair(stage, server, { lease: "10 seconds" }, 300)
      const at = clock()
      await a.call("interrupt", { name: "k" })
      const { at: began } = await stage.observer.began(2)
      const shared = [await second]
      served(shared, 1)
      assert.equal(stage.observer.most, 1)
      atMost("hand-over", began - at, noise())
      return facts(stage, shared, { delay: began - at, note: "until the follower leads; lease 10 s" })
    }
  },
  {
    id: "12b",
    name: "one caller of many, and a follower, are interrupted",
    run: async (stage) => {
      const { url } = await stage.redis()
      const [a, b] = await stage.workersOf(2, { url }) as [Worker, Worker]
      const first = a.share({ key: "k", millis: 500, callers: 10 })
      await stage.observer.began(1)
      const second = b.share({ key: "k", millis: 500, callers: 10 })
      const left = b.share({ key: "k", millis: 500, callers: 1, name: "left" })
      await pause(100)
      await a.call("interrupt", { name: "k", count: 1 })
      await b.call("interrupt", { name: "left" })
      const shared = await Promise.all([first, second])
      assert.deepEqual(shared.map((_) => [_.ok, _.errors.length]), [[9, 1], [10, 0]])
      assert.deepEqual((await left).errors, ["interrupted"])
      oneResult(shared)
      assert.equal(stage.observer.runs.length, 1)
      return facts(stage, shared, { note: "the failures are the interrupted" })
    }
  },
  {
    id: "12c",
    name: "SIGTERM of the leader's process",
    quick: true,
    run: async (stage) => {
      const server = await stage.redis()
      const { a, second } = await pair(stage, server, { lease: "10 seconds" }, 300)
      const at = clock()
      a.kill("SIGTERM")
      const { at: began } = await stage.observer.began(2)
      const shared = [await second]
      served(shared, 1)
      atMost("hand-over", began - at, 1000)
      return facts(stage, shared, { delay: began - at, note: "until the follower leads; lease 10 s" })
    }
  },
  ...(["join", "complete"] as const).map((verb, i): Case => ({
    id: `13${"ab"[i]}`,
    name: `the reply of ${verb} is lost`,
    quick: verb === "complete",
    run: async (stage) => {
      const server = await stage.redis()
      const proxy = await stage.proxy(server.port)
      const reducer = { lease: "10 seconds", ...patient }
      const a = await stage.worker({ url: `redis://127.0.0.1:${proxy.port}`, reducer })
      const b = await stage.worker({ url: server.url, reducer })
      await a.share({ key: "warm", millis: 0 })
      proxy.cutAfter = i + 1
      const at = clock()
      const first = a.share({ key: "k", millis: 300 })
      await stage.observer.began(2)
      const second = b.share({ key: "k", millis: 300 })
      const shared = await Promise.all([first, second])
      const delay = clock() - at
      served(shared, 2)
      oneResult(shared)
      assert.equal(proxy.cuts, 1)
      assert.equal(stage.observer.runs.length, 2)
      atMost("delay", delay, 300 + 1000 + noise())
      return facts(stage, shared, { delay, note: "300 of run; the first run is the warm-up" })
    }
  })),
  {
    id: "14",
    name: "payloads of any size, keys of any text",
    run: async (stage) => {
      const { url } = await stage.redis()
      const [a, b] = await stage.workersOf(2, { url }) as [Worker, Worker]
      const shared: Array<Shared> = []
      const sizes = [0, 8100, 8170, 8192, 500_000]
      for (const [i, key] of ["}", "a\nb", "{é}:🦉", "", "\ud800"].entries()) {
        const run = { key, millis: 300 * load(), size: sizes[i]! }
        const first = a.share(run)
        await stage.observer.began(i + 1)
        const round = await Promise.all([first, b.share(run)])
        served(round, 2)
        oneResult(round)
        shared.push(...round)
      }
      assert.equal(stage.observer.runs.length, 5)
      return facts(stage, shared.map((_) => ({ ..._, values: _.values.map((value) => value.slice(0, 20)) })))
    }
  },
  {
    id: "15",
    name: "a result that a process cannot decode",
    run: async (stage) => {
      const { url } = await stage.redis()
      const [a, b] = await stage.workersOf(2, { url }) as [Worker, Worker]
      const run = { key: "k", millis: 500 * load() }
      const first = a.share(run)
      await stage.observer.began(1)
      const shared = await Promise.all([first, b.share({ ...run, numeric: true, callers: 5 })])
      assert.deepEqual(shared[1].errors, Array.from({ length: 5 }, () => "CodecError"))
      assert.equal(shared[0].ok, 1)
      assert.equal(stage.observer.runs.length, 1)
      return facts(stage, shared, { note: "the failures are the CodecErrors" })
    }
  },
  {
    id: "16",
    name: "8 processes with 1,000 callers of one key",
    run: async (stage) => {
      const { url } = await stage.redis()
      const workers = await stage.workersOf(8, { url })
      // All have to call while it runs.
      const millis = 1000 * load()
      const shared = await Promise.all(workers.map((_) => _.share({ key: "k", millis, callers: 1000 })))
      served(shared, 8000)
      oneResult(shared)
      assert.equal(stage.observer.runs.length, 1)
      return facts(stage, shared)
    }
  },
  ...(["SIGKILL", "SIGSTOP"] as const).map((signal, i): Case => ({
    id: `16${"bc"[i]}`,
    name: signal === "SIGKILL" ? "kill -9 of the leader among them" : "SIGSTOP of the leader among them past its lease",
    run: async (stage) => {
      const { url } = await stage.redis()
      const millis = 1000 * load()
      const lease = 2 * millis
      const workers = await stage.workersOf(8, { url, reducer: { lease } })
      const calls = workers.map((_) => _.share({ key: "k", millis, callers: 1000 }))
      for (const call of calls) call.catch(() => {})
      const { pid } = await stage.observer.began(1)
      await pause(500)
      const leader = workers.findIndex((_) => _.child.pid === pid)
      workers[leader]!.kill(signal)
      const at = clock()
      const { at: began } = await stage.observer.began(2, lease + 10_000)
      if (signal === "SIGSTOP") {
        // It wakes while its successor runs.
        await pause(300)
        workers[leader]!.kill("SIGCONT")
      }
      const shared = await Promise.all(calls.filter((_, i) => signal === "SIGSTOP" || i !== leader))
      served(shared, shared.length * 1000)
      oneResult(shared)
      const [value] = shared[0]!.values
      assert.equal(value, stage.observer.runs[1]!.id, "the result is the successor's")
      assert.equal(stage.observer.runs.length, 2)
      assert.equal(stage.observer.most, signal === "SIGKILL" ? 1 : 2)
      atMost("take-over", began - at, lease + 1000)
      return facts(stage, shared, { delay: began - at, note: "until the follower leads; lease 2000, more under load" })
    }
  })),
  ...([["1/min", 1, 60_000, 1, 4], ["3/s", 3, 1000, 4, 3], ["1,000/s", 1000, 1000, 1, 500], [
    "30,000/s",
    30_000,
    1000,
    300,
    12_000
  ]] as const).map(([name, limit, window, burst, count], i): Case => ({
    id: `17${"abcd"[i]}`,
    name: `a rate of ${name} over 4 processes`,
    run: async (stage) => {
      const { url } = await stage.redis()
      const workers = await stage.workersOf(4, {
        url,
        limiter: { rate: { limit, window: `${window} millis`, burst }, storeTimeout: `${1000 * load()} millis` }
      })
      // Warm up: a process that has just started compiles its code first.
      if (i > 1) {
        await rate(workers, limit, window, burst, count / 2)
        await pause(300)
      }
      const { excess, took } = await rate(workers, limit, window, burst, count, i === 0 ? 3000 : 30_000)
      atMost("excess", excess, 0)
      if (i === 0) return { failures: 0, note: `excess ${excess.toFixed(2)}` }
      const ideal = ((4 * count - burst) * window) / limit
      // pace.ts measures the pace without other load.
      atMost("duration", took, ideal * (1 + 0.1 * load()) + 100 * load())
      const deviation = (took / ideal - 1) * 100
      return {
        failures: 0,
        delay: took,
        note: `excess ${excess.toFixed(2)}; ideally ${ideal.toFixed(0)} ms, ${deviation.toFixed(1)} % off`
      }
    }
  })),
  {
    id: "17e",
    name: "a strict rate of 1,000/s over 4 processes, by starts",
    run: async (stage) => {
      const { url } = await stage.redis()
      const limit = 1000
      const workers = await stage.workersOf(4, {
        url,
        limiter: { rate: { limit, window: "1 second", strict: true } }
      })
      await rate(workers, limit, 1000, 1, 250)
      await pause(300)
      const { excess, took, times } = await rate(workers, limit, 1000, 1, 750)
      atMost("excess", excess, 0)
      let most = 0
      for (let from = 0, to = 0; to < times.length; to++) {
        while (times[to]! - times[from]! >= 1000) from++
        most = Math.max(most, to - from + 1)
      }
      // 10 ms of starts, as many for late answers, and one for each process that stalled for longer.
      atMost("starts in a second", most, limit + 10 + 10 * load() + 4)
      return { failures: 0, delay: took, note: `at most ${most} starts in any second; ideally ${4 * 750} ms` }
    }
  },
  {
    id: "18a",
    name: "kill -9 of a process that holds permits",
    quick: true,
    run: async (stage) => {
      const { url } = await stage.redis()
      const workers = await stage.workersOf(3, { url, scheduler: { concurrency: 10, lease: "600 millis" } })
      workers[0]!.call("schedule", { count: 10, millis: 60_000 }).catch(() => {})
      await stage.observer.began(10)
      const rest = Promise.all(
        [workers[1]!, workers[2]!].map((_) => _.call<Shared>("schedule", { count: 20, millis: 20 }))
      )
      await pause(100)
      workers[0]!.kill("SIGKILL")
      const at = clock()
      const { at: began } = await stage.observer.began(11)
      const results = await rest
      assert.deepEqual(results.map((_) => [_.ok, _.errors]), [[20, []], [20, []]])
      assert.equal(stage.observer.most, 10)
      atMost("take-over", began - at, 600 + noise())
      return { ...facts(stage, []), failures: 0, delay: began - at, note: "until the next job runs; lease 600" }
    }
  },
  {
    id: "18b",
    name: "a process that holds permits is frozen past its lease",
    run: async (stage) => {
      const { url } = await stage.redis()
      const workers = await stage.workersOf(3, { url, scheduler: { concurrency: 10, lease: "600 millis" } })
      const frozen = workers[0]!.call<Shared>("schedule", { count: 5, millis: 4000 })
      await stage.observer.began(5)
      const rest = Promise.all(
        [workers[1]!, workers[2]!].map((_) => _.call<Shared>("schedule", { count: 60, millis: 50 }))
      )
      workers[0]!.kill("SIGSTOP")
      await pause(1500)
      workers[0]!.kill("SIGCONT")
      const at = clock()
      const lost = await frozen
      const delay = clock() - at
      const results = await rest
      assert.deepEqual(results.map((_) => [_.ok, _.errors]), [[60, []], [60, []]])
      assert.deepEqual([lost.ok, new Set(lost.errors)], [0, new Set(["StoreError"])])
      atMost("overshoot", stage.observer.most, 15)
      atMost("end of the frozen jobs", delay, 200 + noise())
      return { ...facts(stage, []), failures: lost.errors.length, delay, note: "from SIGCONT to the end of its jobs" }
    }
  },
  {
    id: "18c",
    name: "kill -9 of a process that holds permits of many keys and has penalized one",
    quick: true,
    run: async (stage) => {
      const server = await stage.redis()
      const options = { url: server.url, keyed: { lease: "600 millis" } }
      const [a, b] = await stage.workersOf(2, options) as [Worker, Worker]
      const keys = 50
      a.call("keys", { count: keys, millis: 60_000 }).catch(() => {})
      await stage.observer.began(keys)
      await a.call("penalize", { key: "key 0", millis: 1500 })
      const penalized = clock()
      const rest = b.call<Shared>("keys", { count: keys, millis: 10 })
      await pause(100)
      a.kill("SIGKILL")
      const at = clock()
      const { at: began } = await stage.observer.began(keys + 1)
      await stage.observer.began(2 * keys - 1)
      const delay = clock() - at
      const results = await rest
      assert.deepEqual([results.ok, results.errors], [keys, []])
      const last = stage.observer.runs.at(-1)!
      assert.equal(last.key, "key 0")
      assert.ok(last.at - penalized >= 1490, "the penalty outlives the process that gave it")
      assert.ok(began - at > 0)
      atMost("take-over", delay, 600 + noise())
      for (let i = 0; i < 100 && await b.call("sizeOfKeys") !== 0; i++) await pause(50)
      for (let i = 0; i < 100 && await server.command("DBSIZE") !== ":0\r\n"; i++) await pause(50)
      assert.deepEqual([await b.call("sizeOfKeys"), await server.command("DBSIZE")], [0, ":0\r\n"])
      return { ...facts(stage, [results]), delay, note: "until the jobs of 49 keys run; lease 600" }
    }
  },
  {
    id: "18d",
    name: "1,000 keys in two processes: one runs a job for each, the other waits for each",
    run: async (stage) => {
      const server = await stage.redis()
      const keys = 1000
      const [a, b] = await stage.workersOf(2, { url: server.url }) as [Worker, Worker]
      const census = (worker: Worker) => worker.call<{ timers: number; sockets: number }>("census")
      const before = [await census(a), await census(b)]
      const info = async () => {
        const text = await server.command("INFO", "everything")
        const number = (name: string) => Number(new RegExp(`${name}[:=]([\\d.]+)`).exec(text)?.[1] ?? 0)
        return {
          commands: number("cmdstat_evalsha:calls"),
          cpu: number("used_cpu_user") + number("used_cpu_sys"),
          mean: number("cmdstat_evalsha:.*?usec_per_call")
        }
      }
      const began = clock()
      await a.call("hold", { count: keys, running: keys })
      const start = clock() - began
      await b.call("hold", { count: keys, running: 0 })
      await pause(2000)
      const first = await info()
      await pause(10_000)
      const second = await info()
      const held = [await census(a), await census(b)]
      const rate = (second.commands - first.commands) / 10
      const cpu = (second.cpu - first.cpu) * 10
      const timers = held.map((_, i) => _.timers - before[i]!.timers)
      const sockets = held.map((_, i) => _.sockets - before[i]!.sockets)
      await a.call("letGo")
      await pause(500)
      await b.call("letGo")
      const freed = clock()
      for (let i = 0; i < 100 && await server.command("DBSIZE") !== ":0\r\n"; i++) await pause(50)
      const gone = clock() - freed
      assert.equal(await server.command("DBSIZE"), ":0\r\n")
      atMost("commands a second", rate, 60)
      // One, and one for each command that is on its way.
      atMost("timers", Math.max(...timers), 40)
      atMost("sockets", Math.max(...sockets), 0)
      return {
        ...facts(stage, []),
        delay: start,
        note:
          `all start; then ${rate.toFixed(1)} commands/s, ${cpu.toFixed(1)} % of a core, ${
            second.mean.toFixed(0)
          } µs a command, `
          + `timers +${timers.join(", +")}; empty after ${gone.toFixed(0)} ms`
      }
    }
  },
  {
    id: "20a",
    name: "the connections go dead without a word",
    run: async (stage) => {
      const server = await stage.redis()
      const proxy = await stage.proxy(server.port)
      const a = await stage.worker({ url: `redis://127.0.0.1:${proxy.port}`, reducer: patient })
      await a.share({ key: "warm", millis: 0 })
      proxy.deaden("all")
      const at = clock()
      const shared = [await a.share({ key: "k", millis: 0 })]
      const delay = clock() - at
      served(shared, 1)
      atMost("delay", delay, 1000 + 2000 + 250 + noise())
      return facts(stage, shared, { delay, note: "storeTimeout, 2 s for a PING, a pause between attempts" })
    }
  },
  {
    id: "20b",
    name: "the subscription goes dead without a word",
    run: async (stage) => {
      const server = await stage.redis()
      const proxy = await stage.proxy(server.port)
      const b = await stage.worker({ url: `redis://127.0.0.1:${proxy.port}`, reducer: {} })
      const a = await stage.worker({ url: server.url, reducer: {} })
      await Promise.all([a, b].map((_) => _.share({ key: "warm", millis: 0 })))
      await pause(500)
      assert.equal(proxy.deaden("subscriptions"), 1)
      await pause(15_000 + 3000 + 1000)
      const began = stage.observer.began(stage.observer.runs.length + 1)
      const first = a.share({ key: "k", millis: 200 })
      await began
      const at = clock()
      const shared = [await b.share({ key: "k", millis: 200 }), await first]
      const delay = clock() - at
      served(shared, 2)
      oneResult(shared)
      atMost("delay", delay, 200 + noise())
      return facts(stage, shared, { delay, note: "200 of run; a lost wake-up would cost up to a second" })
    }
  },
  {
    id: "20c",
    name: "the connections are cut, and those that follow go dead while they are made",
    run: async (stage) => {
      const server = await stage.redis()
      const proxy = await stage.proxy(server.port)
      const options = { url: `redis://127.0.0.1:${proxy.port}`, reducer: { outageBudget: "30 seconds" } }
      const a = await stage.worker(options)
      await a.share({ key: "warm", millis: 0 })
      proxy.cut()
      for (const until = clock() + 1000; clock() < until; await pause(5)) proxy.deaden("all")
      const at = clock()
      const shared = [await a.share({ key: "k", millis: 0 })]
      const delay = clock() - at
      served(shared, 1)
      atMost("delay", delay, 5000 + 2000 + noise())
      return facts(stage, shared, { delay, note: "five PINGs, a second apart" })
    }
  },
  {
    id: "21a",
    name: "10,000 keys at once in each of two processes",
    run: async (stage) => {
      const { url } = await stage.redis()
      // Less than all of it takes, so that a command's time must not begin before it is sent.
      const options = { storeTimeout: `${2000 * load()} millis` }
      const workers = await stage.workersOf(2, {
        url,
        reducer: { ...options, onStoreError: "fail" },
        limiter: options,
        keyed: options
      })
      const at = clock()
      const errors = await Promise.all(workers.map((_) => _.call<object>("crowd", { count: 10_000 })))
      for (const each of errors) {
        const counts = Object.entries(each).map(([kind, failed]) => `${kind}: ${(failed as Array<string>).length}`)
        assert.deepEqual(counts, ["flights: 0", "tokens: 0", "jobs: 0"])
      }
      return { failures: 0, delay: clock() - at, note: "60,000 calls" }
    }
  },
  {
    id: "21b",
    name: "weights of 100,000, and 10,000 processes that wait",
    run: async (stage) => {
      const server = await stage.redis()
      const slow = () => server.command("SLOWLOG", "GET", "1")
      // The time of a script is that of the clock: it counts while others have the core, too.
      const tenMillis = Math.ceil(10_000 * load()).toString()
      const worker = await stage.worker({ url: server.url, scheduler: { concurrency: 100_000 } })
      await server.command("CONFIG", "SET", "slowlog-log-slower-than", tenMillis)
      await worker.call("heavy", { weight: 100_000 })
      assert.equal(await slow(), "*0\r\n", "no script of a heavy job takes 10 ms")
      // Others wait for a permit, and for the result of a run.
      const inboxes = Array.from({ length: 10_000 }, (_, i) => `${i}-token effect-funnel:1:inbox:${i}`)
      const job = "{effect-funnel:1:p:effect-funnel/Scheduler}"
      const shared = `{effect-funnel:1:f:effect-funnel/Reducer:["Shared","k"]}`
      const served = worker.share({ key: "k", millis: 500, size: 8000 })
      await stage.observer.began(1)
      const held = worker.call("heavy", { weight: 100_000 })
      const in1h = String((Date.now() + 3_600_000) * 1000)
      await server.command("CONFIG", "SET", "slowlog-log-slower-than", "-1")
      await server.command("SADD", `${shared}:w`, ...inboxes)
      await server.command("ZADD", `${job}:q`, ...inboxes.flatMap((inbox, i) => [String(i + 1), inbox]))
      await server.command("ZADD", `${job}:a`, ...inboxes.flatMap((inbox) => [in1h, inbox]))
      await server.command("HSET", `${job}:n`, ...inboxes.flatMap((inbox) => [inbox, "1 3600000000"]))
      await server.command("CONFIG", "SET", "slowlog-log-slower-than", tenMillis)
      assert.equal((await served).ok, 1)
      await held
      worker.call("heavy", { weight: 1 }).catch(() => {})
      await pause(200)
      const most = await slow()
      assert.equal(most, "*0\r\n", `no script takes 10 ms: ${most.slice(0, 1200)}`)
      for (let i = 0; i < 40 && await server.command("EXISTS", `${shared}:w`) !== ":0\r\n"; i++) await pause(50)
      assert.equal(await server.command("EXISTS", `${shared}:w`), ":0\r\n", "all are woken")
      return { failures: 0 }
    }
  },
  {
    id: "22a",
    name: "a result of 5 MB over a line of 1 MB a second",
    run: async (stage) => {
      const server = await stage.redis()
      const proxy = await stage.proxy(server.port)
      const url = `redis://127.0.0.1:${proxy.port}`
      const [a, b] = await stage.workersOf(2, {
        url,
        reducer: { onStoreError: "fail", maxResultBytes: 6_000_000 }
      }) as [Worker, Worker]
      proxy.bytesPerSecond = 1e6
      const at = clock()
      const first = a.share({ key: "k", millis: 100, size: 2_500_000 })
      await stage.observer.began(1)
      const shared = await Promise.all([first, b.share({ key: "k", millis: 100, size: 2_500_000 })])
      const delay = clock() - at
      for (const { errors } of shared) assert.ok(errors.every((_) => _ === "StoreError"), errors.join())
      atMost("delay", delay, 30_000)
      // The line is free again.
      const again = clock()
      served([await a.share({ key: "small", millis: 0 })], 1)
      atMost("delay of the next call", clock() - again, 10_000)
      return facts(stage, shared.map((_) => ({ ..._, values: _.values.map((value) => value.slice(0, 20)) })), { delay })
    }
  },
  {
    id: "22b",
    name: "Redis has no memory left",
    quick: true,
    run: async (stage) => {
      const server = await stage.redis()
      const fail = await stage.worker({ url: server.url, reducer: { onStoreError: "fail", lease: "600 millis" } })
      const local = await stage.worker({
        url: server.url,
        limiter: { onStoreError: "allow" },
        scheduler: { onStoreError: "local" }
      })
      const running = fail.share({ key: "k", millis: 1500 })
      await stage.observer.began(1)
      await server.command("CONFIG", "SET", "maxmemory", "1")
      // What runs goes on, and keeps its lease.
      const ended = await running
      const at = clock()
      const refused = await fail.share({ key: "new", millis: 0 })
      const shared = await local.share({ key: "new", millis: 0 })
      const consumed = await fail.call<{ errors: Array<string> }>("consume", { count: 3, millis: 5000 })
      const allowed = await local.call<{ errors: Array<string>; times: Array<number> }>("consume", {
        count: 3,
        millis: 5000
      })
      // The few bytes of a permit are written all the same.
      const jobs = await Promise.all([fail, local].map((_) => _.call<Shared>("schedule", { count: 15, millis: 20 })))
      const delay = clock() - at
      served([ended, shared], 2)
      assert.deepEqual(new Set(refused.errors), new Set(["StoreError"]))
      assert.deepEqual(new Set(consumed.errors), new Set(["StoreError"]))
      assert.deepEqual([allowed.errors, allowed.times.length], [[], 3])
      assert.deepEqual(jobs.map((_) => [_.ok, _.errors]), [[15, []], [15, []]])
      atMost("most at once", stage.observer.most, 10)
      assert.equal(stage.observer.runs.filter(({ key }) => key === "k").length, 1)
      await server.command("CONFIG", "SET", "maxmemory", "0")
      served([await fail.share({ key: "after", millis: 0 })], 1)
      return facts(stage, [ended, shared], { delay, note: "three budgets of 1000" })
    }
  },
  {
    id: "19",
    name: "100,000 flights leave nothing behind",
    run: async (stage) => {
      const server = await stage.redis()
      const workers = await stage.workersOf(2, {
        url: server.url,
        reducer: { retain: "500 millis", lease: "1 second" }
      })
      const census = () =>
        Promise.all(workers.map((_) => _.call<{ timers: number; sockets: number; heap: number }>("census")))
      const connections = async () => /connected_clients:(\d+)/.exec(await server.command("INFO", "clients"))![1]
      await Promise.all(workers.map((_) => _.call("flights", { count: 2000, fibers: 50, keys: 100 })))
      await pause(1700)
      const before = await census()
      const clients = await connections()
      const at = clock()
      await Promise.all(workers.map((_) => _.call("flights", { count: 50_000, fibers: 100, keys: 1000 })))
      const delay = clock() - at
      await pause(4000)
      await server.command("DEBUG", "SET-ACTIVE-EXPIRE", "1")
      for (let i = 0; i < 40 && await server.command("DBSIZE") !== ":0\r\n"; i++) await pause(500)
      assert.equal(await server.command("DBSIZE"), ":0\r\n")
      assert.equal(await connections(), clients)
      const after = await census()
      for (const [i, { heap, sockets, timers }] of after.entries()) {
        assert.equal(sockets, before[i]!.sockets)
        atMost("timers", timers, before[i]!.timers + 1)
        atMost("heap in MB", (heap - before[i]!.heap) / 1e6, 4)
      }
      return { failures: 0, delay, note: `${(100_000 / delay * 1000).toFixed(0)} flights a second` }
    }
  }
]

/**
 * Consumes in all workers. `excess` is the most tokens beyond burst + T / interval, at most 0 if the rate holds; `took` are
 * the milliseconds from the first start to the last.
 */
const rate = async (
  workers: ReadonlyArray<Worker>,
  limit: number,
  window: number,
  burst: number,
  count: number,
  millis = 30_000
): Promise<{ readonly excess: number; readonly took: number; readonly times: ReadonlyArray<number> }> => {
  const began = clock()
  const all = await Promise.all(
    workers.map((_) => _.call<{ times: Array<number>; errors: Array<string> }>("consume", { count, millis }))
  )
  assert.deepEqual(all.flatMap((_) => _.errors), [])
  const times = all.flatMap((_) => _.times).toSorted((a, b) => a - b)
  const excess = times.reduce(
    (excess, at, i) => Math.max(excess, i + 1 - burst - ((at - began) * limit) / window),
    -Infinity
  )
  return { excess, took: times.at(-1)! - times[0]!, times }
}
