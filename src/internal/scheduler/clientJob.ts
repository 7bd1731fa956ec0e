/**
 * A job of a client that has none of the scheduler's code: it gets its jobs from the engine. So a program that batches without
 * a scheduler does not bundle one.
 */
import type { Node } from "../waits/waits.js"
import type { SchedulerError } from "./error.js"
import { Job } from "./job.js"
import { oneJob } from "./options.js"

/** Hears of its job, as a job does. */
export interface Client {
  onStart(): void
  onFailure(error: SchedulerError): void
  onClose(isRunning: boolean): void
}

/** It waits where the queue is full, and `outer` waits for it: it may run in the width of a job that waits for that. */
export class ClientJob extends Job {
  private readonly client: Client

  constructor(client: Client, outer: Node) {
    super(oneJob, outer, true)
    this.client = client
  }

  onStart(): void {
    this.client.onStart()
  }
  onFailure(error: SchedulerError): void {
    this.client.onFailure(error)
  }
  onClose(): void {
    this.client.onClose(this.state === "Running")
  }
}
