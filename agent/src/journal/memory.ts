import { create } from "@bufbuild/protobuf";
import type { Result } from "@coppice/proto/gen/coppice/agent/v1/command";
import { type Fence, FenceSchema } from "@coppice/proto/gen/coppice/common/v1/fence";
import { compareFences } from "./fence.ts";
import { type CommandKey, commandKey, type JournalRecord } from "./record.ts";

/** What is remembered of a command. */
export type Entry =
  | { readonly is: "begun"; readonly key: CommandKey }
  | { readonly is: "ended"; readonly key: CommandKey; readonly result: Result }
  | { readonly is: "acknowledged"; readonly key: CommandKey };

/** What is remembered of an operation. */
export interface OperationMemory {
  /** The newest one seen. */
  readonly fence: Fence;
  readonly steps: ReadonlyMap<string, string>;
}

/** What the journal's lines amount to: bounded, the oldest forgotten first, results that are still owed never. */
export interface Memory {
  readonly entries: ReadonlyMap<string, Entry>;
  readonly operations: ReadonlyMap<string, OperationMemory>;
  /** Takes in the next line; undefined is one that only a newer version knows. */
  apply(record: JournalRecord | undefined): void;
  /** The shortest lines that amount to the same. */
  records(): JournalRecord[];
}

/** How many finished commands and operations are remembered, for repeated ids and old fences. */
const remembered = 2000;

/** An empty memory. */
export function openMemory(): Memory {
  const entries = new Map<string, Entry>();
  const operations = new Map<string, OperationMemory>();
  // Set again at the end, so that the first ones are always the oldest.
  const rememberOperation = (operationId: string, fence: Fence, step?: readonly [string, string]) => {
    const known = operations.get(operationId);
    operations.delete(operationId);
    operations.set(operationId, {
      fence: known && compareFences(known.fence, fence) > 0 ? known.fence : fence,
      steps: new Map([...(known?.steps ?? []), ...(step ? [step] : [])]),
    });
    dropOldest(operations, () => true);
  };
  const rememberCommand = (entry: Entry) => {
    entries.delete(entry.key.commandId);
    entries.set(entry.key.commandId, entry);
    rememberOperation(entry.key.operationId, entry.key.fence);
    dropOldest(entries, ({ is }) => is !== "ended");
  };
  return {
    entries,
    operations,
    apply(record) {
      switch (record?.kind) {
        case "received":
          return rememberCommand({ is: "begun", key: record.key });
        case "ended":
          return rememberCommand({ is: "ended", key: commandKey(record.result), result: record.result });
        case "acknowledged":
          return rememberCommand({ is: "acknowledged", key: record.key });
        case "fence":
          return rememberOperation(record.operationId, record.fence);
        case "step":
          return rememberOperation(record.operationId, create(FenceSchema), [record.name, record.value]);
        case undefined:
          return undefined;
      }
    },
    records: () => [
      ...[...operations].flatMap(([operationId, { fence, steps }]): JournalRecord[] => [
        { kind: "fence", operationId, fence },
        ...[...steps].map(([name, value]): JournalRecord => ({ kind: "step", operationId, name, value })),
      ]),
      ...[...entries.values()].map((entry): JournalRecord => {
        if (entry.is === "ended") return { kind: "ended", result: entry.result };
        return { kind: entry.is === "begun" ? "received" : "acknowledged", key: entry.key };
      }),
    ],
  };
}

function dropOldest<K, V>(map: Map<K, V>, mayGo: (value: V) => boolean): void {
  for (const [key, value] of map) {
    if (map.size <= remembered) return;
    if (mayGo(value)) map.delete(key);
  }
}
