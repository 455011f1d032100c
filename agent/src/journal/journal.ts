import { mkdir, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Command, Result } from "@coppice/proto/gen/coppice/agent/v1/command";
import type { Fence } from "@coppice/proto/gen/coppice/common/v1/fence";
import { Failure, fail } from "@coppice/proto/kit/failure";
import { type AppendFile, openAppendFile } from "./append-file.ts";
import { ownAsParent, syncFolder } from "./durable-file.ts";
import { compareFences } from "./fence.ts";
import { type Memory, openMemory } from "./memory.ts";
import { commandKey, formatRecord, type JournalRecord, parseRecord, receivedRecord } from "./record.ts";

/** What the journal says of a command that has just come in. */
export type Admission =
  /** It is new, recorded, and may begin. */
  | { readonly is: "new" }
  /** It has ended before, and this came of it. */
  | { readonly is: "ended"; readonly result: Result }
  /** It has begun before, in this process or an earlier one, or its result was acknowledged and is no longer kept. */
  | { readonly is: "seen" }
  /** A newer attempt of the operation is known. */
  | { readonly is: "stale"; readonly newest: Fence };

/** The durable memory of which commands came in and how they ended. */
export interface Journal extends AsyncDisposable {
  /** Records the command, its secrets left out, before anything is done for it. */
  admit(command: Command): Promise<Admission>;
  /** Records how a command ended. The result counts as not acknowledged also when recording it fails. */
  end(result: Result): Promise<void>;
  /** The control plane has stored the result; it is forgotten, its command's id is not. */
  acknowledge(commandId: string): Promise<void>;
  /** Records a step of an operation's work, before it counts; a later one of the same name takes its place. */
  note(operationId: string, name: string, value: string): Promise<void>;
  /** What was noted under the name, also by an earlier process. */
  noted(operationId: string, name: string): string | undefined;
  /** Results that were not acknowledged yet, oldest first. */
  unacknowledged(): readonly Result[];
}

const compactAboveBytes = 4 << 20;

/**
 * Opens the journal below the data folder, making it when there is none. A line that was cut off by a crash is dropped;
 * any other damage fails with JOURNAL_DAMAGED, a folder that cannot be used with DATA_FOLDER_UNUSABLE.
 */
export async function openJournal(dataDirectory: string): Promise<Journal> {
  const folder = join(dataDirectory, "journal");
  const path = join(folder, "commands.jsonl");
  const memory = openMemory();
  try {
    const created = await mkdir(folder, { recursive: true, mode: 0o700 });
    if (created !== undefined) await ownAsParent(folder);
    const { file, lines } = await openAppendFile(path);
    await using closing = new AsyncDisposableStack();
    closing.use(file);
    for (const [index, line] of lines.entries()) memory.apply(readLine(path, index + 1, line));
  } catch (error) {
    throw asUnusable(error, folder);
  }
  return new FileJournal(path, memory, await rewrite(path, memory));
}

function readLine(path: string, number: number, line: string): JournalRecord | undefined {
  try {
    return parseRecord(line);
  } catch (cause) {
    return fail("JOURNAL_DAMAGED", `line ${number} of ${path} cannot be read`, { cause });
  }
}

/** Writes what the memory holds as a new file in the place of the old one, open for what comes next. */
async function rewrite(path: string, memory: Memory): Promise<AppendFile> {
  const temporary = `${path}.new`;
  try {
    await rm(temporary, { force: true });
    const { file } = await openAppendFile(temporary);
    await using closing = new AsyncDisposableStack();
    closing.use(file);
    await file.append(memory.records().map(formatRecord).join(""));
    await rename(temporary, path);
    await syncFolder(dirname(path));
    closing.move();
    return file;
  } catch (error) {
    throw asUnusable(error, path);
  }
}

/** What a system call refused becomes a failure; anything else stays what it is. */
function asUnusable(error: unknown, path: string): unknown {
  if (!(error instanceof Error && "syscall" in error && "code" in error)) return error;
  const code = String(error.code);
  return new Failure("DATA_FOLDER_UNUSABLE", `the journal ${path} cannot be used: ${code}`, { cause: error });
}

class FileJournal implements Journal {
  readonly #path: string;
  readonly #memory: Memory;
  #file: AppendFile;
  #compactedBytes: number;
  #tail: Promise<void> = Promise.resolve();

  constructor(path: string, memory: Memory, file: AppendFile) {
    this.#path = path;
    this.#memory = memory;
    this.#file = file;
    this.#compactedBytes = file.sizeBytes;
  }

  admit(command: Command): Promise<Admission> {
    return this.#inTurn(async () => {
      const key = commandKey(command);
      const entry = this.#memory.entries.get(key.commandId);
      if (entry?.is === "ended") return { is: "ended", result: entry.result };
      if (entry) return { is: "seen" };
      const newest = this.#memory.operations.get(key.operationId)?.fence;
      if (newest && compareFences(key.fence, newest) < 0) return { is: "stale", newest };
      await this.#append(receivedRecord(command));
      this.#memory.apply({ kind: "received", key });
      return { is: "new" };
    });
  }

  end(result: Result): Promise<void> {
    return this.#inTurn(async () => {
      const record: JournalRecord = { kind: "ended", result };
      this.#memory.apply(record);
      await this.#append(record);
    });
  }

  acknowledge(commandId: string): Promise<void> {
    return this.#inTurn(async () => {
      const entry = this.#memory.entries.get(commandId);
      if (entry?.is !== "ended") return;
      const record: JournalRecord = { kind: "acknowledged", key: entry.key };
      this.#memory.apply(record);
      await this.#append(record);
      if (this.#file.sizeBytes > Math.max(compactAboveBytes, 2 * this.#compactedBytes)) await this.#compact();
    });
  }

  note(operationId: string, name: string, value: string): Promise<void> {
    return this.#inTurn(async () => {
      const record: JournalRecord = { kind: "step", operationId, name, value };
      await this.#append(record);
      this.#memory.apply(record);
    });
  }

  noted(operationId: string, name: string): string | undefined {
    return this.#memory.operations.get(operationId)?.steps.get(name);
  }

  unacknowledged(): readonly Result[] {
    return [...this.#memory.entries.values()].flatMap((entry) => (entry.is === "ended" ? [entry.result] : []));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#inTurn(async () => this.#file[Symbol.asyncDispose]());
  }

  async #append(record: JournalRecord): Promise<void> {
    try {
      await this.#file.append(formatRecord(record));
    } catch (error) {
      throw asUnusable(error, this.#path);
    }
  }

  async #compact(): Promise<void> {
    const old = this.#file;
    this.#file = await rewrite(this.#path, this.#memory);
    this.#compactedBytes = this.#file.sizeBytes;
    await old[Symbol.asyncDispose]();
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#tail.then(work);
    // The next one does not care how this one ended; whoever asked for it does.
    this.#tail = turn.then(
      () => undefined,
      () => undefined,
    );
    return turn;
  }
}
