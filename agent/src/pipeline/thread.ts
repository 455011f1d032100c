import { type Transferable, Worker } from "node:worker_threads";

/** A thread of this process that answers questions, one after the other in their order. */
export interface Thread<Question, Answer> {
  /** What is transferred is the thread's from now on. Fails when the thread has ended. */
  ask(question: Question, transferred?: readonly Transferable[]): Promise<Answer>;
  /** Ends it at once; what is still asked fails. */
  end(): Promise<void>;
}

/**
 * Starts a thread that runs the program `name` beside `importer`, the caller's `import.meta.url`: the very file in the
 * sources, and in a bundle one of its own. `what` names it in errors; `onExit` is called once it is gone.
 */
export function startThread<Question, Answer>(
  { name, importer, what }: { readonly name: string; readonly importer: string; readonly what: string },
  onExit: () => void = () => {},
): Thread<Question, Answer> {
  const file = importer.endsWith(".ts") ? `./${name}.ts` : `./${name}.js`;
  const worker = new Worker(new URL(file, importer));
  const asked: PromiseWithResolvers<Answer>[] = [];
  let failure: Error | undefined;
  // It keeps the process alive only while somebody waits for an answer.
  worker.unref();
  worker.on("message", (answer: Answer) => {
    asked.shift()?.resolve(answer);
    if (asked.length === 0) worker.unref();
  });
  const fail = (error: Error) => {
    failure ??= error;
    for (const each of asked.splice(0)) each.reject(failure);
    onExit();
  };
  worker.on("error", fail);
  worker.on("exit", () => fail(new Error(`${what} has ended`)));
  return {
    async ask(question, transferred = []) {
      if (failure) throw failure;
      const answer = Promise.withResolvers<Answer>();
      if (asked.push(answer) === 1) worker.ref();
      worker.postMessage(question, transferred);
      return await answer.promise;
    },
    async end() {
      await worker.terminate();
    },
  };
}
