/** Differs from others of its class in private state only. */
export class Session {
  readonly #user: string
  constructor(user: string) {
    this.#user = user
  }
  user() {
    return this.#user
  }
}
