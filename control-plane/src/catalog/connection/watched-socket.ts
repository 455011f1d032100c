import { Socket } from "node:net";

/** Where a watched connection leads, and how long its other end may be silent. */
export interface WatchedSocketOptions {
  readonly to: { readonly host: string; readonly port: number } | { readonly path: string };
  readonly silentMs: number;
  /** It was silent for that long, and is given up. */
  readonly onSilence: () => void;
  /** It has ended, for whatever reason. */
  readonly onEnd: () => void;
}

/** Looks at a connection in its longest silence: who was stopped in between has had one look, not all of them. */
const looks = 6;

/**
 * A connection that is given up when nothing has come since something was asked, or since it was opened: TCP itself
 * takes a quarter of an hour to find a way that swallows everything, or for ever when somebody on it acknowledges.
 * What is asked while no answer is owed begins the time anew; what is asked later does not.
 */
export class WatchedSocket extends Socket {
  /** Of the server: the driver checks its certificate by it. */
  readonly host: string | undefined;
  readonly port: number | undefined;
  readonly #onEnd: () => void;
  readonly #timer: NodeJS.Timeout;

  constructor({ to, silentMs, onSilence, onEnd }: WatchedSocketOptions) {
    super();
    this.#onEnd = onEnd;
    let read = 0;
    let written = 0;
    let isAsked = false;
    let quietLooks = 0;
    // By the bytes, and not by events: over TLS those of this socket do not come.
    const look = () => {
      const hasRead = this.bytesRead !== read;
      const hasAsked = !hasRead && !isAsked && this.bytesWritten !== written;
      isAsked = !hasRead && (isAsked || hasAsked);
      quietLooks = hasRead || hasAsked ? 0 : quietLooks + 1;
      read = this.bytesRead;
      written = this.bytesWritten;
      if (quietLooks < looks) return;
      onSilence();
      this.destroy();
    };
    this.#timer = setInterval(look, silentMs / looks).unref();
    if ("path" in to) {
      this.connect(to.path);
    } else {
      this.host = to.host;
      this.port = to.port;
      this.connect(to.port, to.host);
    }
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    clearInterval(this.#timer);
    this.#onEnd();
    super._destroy(error, callback);
  }
}
