interface Waiter<T> {
  readonly item: T;
  readonly taken: () => void;
  readonly refused: (reason: unknown) => void;
}

type State = { is: "open" } | { is: "closed" } | { is: "failed"; error: unknown };

/**
 * A first-in first-out queue with a bound, between any number of producers and one consumer that reads it with
 * `for await`. When the consumer leaves its loop the queue counts as closed and what is left in it is dropped.
 */
export class Queue<T> implements AsyncIterable<T> {
  readonly #capacity: number;
  #items: T[] = [];
  #producers: Waiter<T>[] = [];
  #consumer: PromiseWithResolvers<void> | undefined;
  #state: State = { is: "open" };

  /** `capacity` is how many items lie in the queue at most, at least 1. */
  constructor(capacity: number) {
    if (!Number.isInteger(capacity) || capacity < 1)
      throw new RangeError(`queue capacity ${capacity} is not 1 or more`);
    this.#capacity = capacity;
  }

  /** How many items lie in the queue or wait to get in. */
  get size(): number {
    return this.#items.length + this.#producers.length;
  }

  /** Whether it takes no more items: it was closed or failed, or its consumer left. */
  get isEnded(): boolean {
    return this.#state.is !== "open";
  }

  /** Puts an item in, waiting while it is full; rejects with the signal's reason, or when the queue has ended. */
  async push(item: T, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    if (this.offer(item)) return;
    if (this.#state.is !== "open") throw this.#ending();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const waiter: Waiter<T> = { item, taken: resolve, refused: reject };
    const leave = () => {
      this.#producers = this.#producers.filter((other) => other !== waiter);
      reject(signal?.reason);
    };
    this.#producers.push(waiter);
    signal?.addEventListener("abort", leave, { once: true });
    try {
      await promise;
    } finally {
      signal?.removeEventListener("abort", leave);
    }
  }

  /** Puts an item in if there is room now; false when it is full or has ended. */
  offer(item: T): boolean {
    if (this.#state.is !== "open" || this.size >= this.#capacity) return false;
    this.#items.push(item);
    this.#consumer?.resolve();
    return true;
  }

  /** Ends it in order: the consumer still gets what was put in, producers that wait for room are refused. */
  close(): void {
    this.#end({ is: "closed" });
  }

  /** Ends it with an error: what lies in it is dropped, the consumer and all producers get the error. */
  fail(error: unknown): void {
    if (this.#state.is === "open") this.#items = [];
    this.#end({ is: "failed", error });
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    try {
      for (;;) {
        while (this.#items.length > 0) {
          const [item] = this.#items.splice(0, 1) as [T];
          this.#admit();
          yield item;
        }
        if (this.#state.is === "failed") throw this.#state.error;
        if (this.#state.is === "closed") return;
        this.#consumer = Promise.withResolvers<void>();
        await this.#consumer.promise;
        this.#consumer = undefined;
      }
    } finally {
      this.#items = [];
      this.close();
    }
  }

  #admit(): void {
    const waiter = this.#producers.shift();
    if (!waiter) return;
    this.#items.push(waiter.item);
    waiter.taken();
  }

  #end(state: State): void {
    if (this.#state.is !== "open") return;
    this.#state = state;
    for (const waiter of this.#producers.splice(0)) waiter.refused(this.#ending());
    this.#consumer?.resolve();
  }

  #ending(): unknown {
    return this.#state.is === "failed" ? this.#state.error : new Error("the queue is closed");
  }
}
