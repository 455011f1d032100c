/** What Ctrl-C and SIGTERM do: they abort the signal, unless a command has taken them over for a while. */
export interface Interrupts extends Disposable {
  readonly signal: AbortSignal;
  /** Acts as if Ctrl-C was pressed: for a terminal in raw mode, where it is a key like others. */
  readonly interrupt: () => void;
  /** Calls the handler for the next interrupt in place of aborting; only the next, and not after disposing. */
  readonly takeOver: (handler: () => void) => Disposable;
}

/** Listens to the process's interrupts until disposed. */
export function openInterrupts(host: NodeJS.Process): Interrupts {
  const controller = new AbortController();
  let handler: (() => void) | undefined;
  const interrupt = () => {
    const taken = handler;
    handler = undefined;
    if (taken) taken();
    else controller.abort(new DOMException("interrupted", "AbortError"));
  };
  const names = ["SIGINT", "SIGTERM"] as const;
  for (const name of names) host.on(name, interrupt);
  return {
    signal: controller.signal,
    interrupt,
    takeOver: (taker) => {
      handler = taker;
      return {
        [Symbol.dispose]: () => {
          if (handler === taker) handler = undefined;
        },
      };
    },
    [Symbol.dispose]: () => {
      for (const name of names) host.off(name, interrupt);
    },
  };
}
