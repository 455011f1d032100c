import type { Client, DatabaseError } from "pg";
import { freeChunk } from "../../host/free-chunk.ts";
import type { ResolvedEndpoint } from "../endpoint.ts";
import { notAnswered } from "../postgres-failure.ts";
import { createFrameReader } from "./frames.ts";
import { parseColumns, parseRow, type Row } from "./rows.ts";
import { parseNotice, parseServerError } from "./server-error.ts";

/** What a command may want to hear while it runs. What these throw ends the line, and the command with it. */
export interface CommandEvents {
  /** A piece of the content of a CopyData message, at once as it comes. */
  onCopyPiece?(piece: Buffer, isFirst: boolean, isLast: boolean): void;
  /** No piece is held when that returns, so that its memory can be freed. */
  readonly copiesPieces?: boolean;
  /** The server is ready to take CopyData; for CopyBoth `onCopyStart` is called. */
  onCopyIn?(): void;
  onCopyStart?(): void;
  onCopyDone?(): void;
  /** A result set is complete. */
  onResult?(rows: readonly Row[]): void;
  onNotice?(text: string): void;
}

/** How a command ended: its result sets, and the server's error if there was one, which may come after results. */
export interface CommandOutcome {
  readonly results: readonly (readonly Row[])[];
  readonly error: DatabaseError | undefined;
}

/** A logged-in connection whose bytes are read here, one command at a time. */
export interface Line {
  /**
   * Runs a command to its end, the server being ready for the next one or having ended the session with an error.
   * Rejects only when the line breaks or was cut.
   */
  run(text: string, events?: CommandEvents): Promise<CommandOutcome>;
  /** Sends a message; false when the socket has enough and `drained` is to be awaited. */
  send(type: string, body: Buffer): boolean;
  drained(): Promise<void>;
  /** Stops reading from the socket until what it gives is called, and so stops the server. */
  hold(): () => void;
  /** Whether reading is stopped by anybody. */
  isHeld(): boolean;
  /** Cuts the line; what runs, and everything after it, rejects with that reason. */
  cut(reason: unknown): void;
  /** When something was last heard, by the monotonic clock. */
  lastHeardMs(): number;
}

interface RunningCommand {
  readonly events: CommandEvents;
  readonly results: Row[][];
  readonly settled: PromiseWithResolvers<CommandOutcome>;
  columns: string[];
  rows: Row[];
  error: DatabaseError | undefined;
}

function frame(type: string, body: Buffer): Buffer {
  const head = Buffer.allocUnsafe(5);
  head.write(type, 0, "latin1");
  head.writeUInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
}

/**
 * Waits for what a sound server does at once, and cuts the line when it does not. Fails with CLUSTER_UNREACHABLE then, else
 * as the wait does.
 */
export async function answered<T>(
  wait: Promise<T>,
  { line, endpoint, answerMs }: { readonly line: Line; readonly endpoint: ResolvedEndpoint; readonly answerMs: number },
): Promise<T> {
  const timer = setTimeout(() => line.cut(notAnswered(endpoint, answerMs)), answerMs);
  try {
    return await wait;
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Takes the line over from `pg` once it has logged in. `pg` would emit an event for each message, forget a query before
 * it tells it of an error, and copy what it reads; here a command settles when the server is ready again, whatever
 * came before, and content is handed on as it lies in the socket's buffers. `explain` says what trouble of the line means.
 */
export function takeLine(client: Client, explain: (trouble: unknown) => Error): Line {
  const { stream } = client.connection;
  let running: RunningCommand | undefined;
  let broken: { readonly reason: unknown } | undefined;
  let holds = 0;
  let heardAt = performance.now();

  function fallSilent(reason: unknown): void {
    broken ??= { reason };
    stream.destroy();
    const command = running;
    running = undefined;
    if (command?.error) command.settled.resolve({ results: command.results, error: command.error });
    else command?.settled.reject(broken.reason);
  }

  function onMessage(type: string, body: Buffer): void {
    if (type === "N") running?.events.onNotice?.(parseNotice(body));
    const command = running;
    if (!command) {
      // Said on the way out, by a server that shuts down or ends this session: the line ends next.
      if (type === "E") broken ??= { reason: explain(parseServerError(body)) };
      return;
    }
    switch (type) {
      case "T":
        command.columns = parseColumns(body);
        command.rows = [];
        break;
      case "D":
        command.rows.push(parseRow(command.columns, body));
        break;
      case "C":
        command.results.push(command.rows);
        command.events.onResult?.(command.rows);
        command.rows = [];
        break;
      case "G":
        command.events.onCopyIn?.();
        break;
      case "W":
        command.events.onCopyStart?.();
        break;
      case "c":
        command.events.onCopyDone?.();
        break;
      case "E":
        command.error = parseServerError(body);
        break;
      case "Z":
        running = undefined;
        command.settled.resolve({ results: command.results, error: command.error });
        break;
      default:
    }
  }

  const feed = createFrameReader({
    onMessage,
    onCopyPiece: (piece, isFirst, isLast) => running?.events.onCopyPiece?.(piece, isFirst, isLast),
  });

  const readChunk = (chunk: Buffer) => {
    heardAt = performance.now();
    if (broken) return;
    const isFree = running?.events.copiesPieces ?? false;
    try {
      if (feed(chunk) && isFree) freeChunk(chunk);
    } catch (error) {
      fallSilent(error);
    }
  };
  stream.on("data", readChunk);
  for (const other of stream.listeners("data")) if (other !== readChunk) stream.off("data", other as () => void);
  const loseLine = (trouble: unknown) => fallSilent(broken ? broken.reason : explain(running?.error ?? trouble));
  stream.on("error", loseLine);
  stream.on("close", () => loseLine(new Error("Connection terminated unexpectedly")));

  const send = (type: string, body: Buffer) => stream.writable && stream.write(frame(type, body));

  return {
    run(text, events = {}) {
      if (broken) return Promise.reject(broken.reason);
      if (running) throw new Error("a replication connection runs one command at a time");
      const settled = Promise.withResolvers<CommandOutcome>();
      running = { events, results: [], settled, columns: [], rows: [], error: undefined };
      send("Q", Buffer.from(`${text}\0`));
      return settled.promise;
    },
    send,
    drained() {
      return new Promise((resolve, reject) => {
        const onDrain = () => {
          stream.off("close", onClose);
          resolve();
        };
        const onClose = () => {
          stream.off("drain", onDrain);
          reject(broken?.reason);
        };
        if (broken || stream.destroyed) onClose();
        else stream.once("drain", onDrain).once("close", onClose);
      });
    },
    hold() {
      holds += 1;
      stream.pause();
      let isHolding = true;
      return () => {
        if (!isHolding) return;
        isHolding = false;
        holds -= 1;
        // What lay in the socket meanwhile is not silence of the server.
        heardAt = performance.now();
        if (holds === 0) stream.resume();
      };
    },
    isHeld: () => holds > 0,
    cut: fallSilent,
    lastHeardMs: () => heardAt,
  };
}
