import { toJson } from "@bufbuild/protobuf";
import { OperationProgressSchema } from "@coppice/proto/gen/coppice/control/v1/operation";
import type { Progress } from "@coppice/proto/gen/coppice/agent/v1/session";
import type { Catalog } from "../../catalog/catalog.ts";
import { changeOperation } from "../../catalog/operations/change.ts";
import { noteGroupProgress } from "../group/progress.ts";
import { computeProgress, keepSamples, type ProgressSample } from "../progress.ts";

/** Notes how far operations are, and remembers the last seconds of each for its rate. */
export interface ProgressKeeper {
  take(hostId: string, progress: Progress): Promise<void>;
  /** The operation's attempt has ended. */
  forget(operationId: string): void;
}

/** Opens one that remembers nothing yet. */
export function openProgressKeeper(catalog: Catalog): ProgressKeeper {
  const samples = new Map<string, readonly ProgressSample[]>();
  return {
    async take(hostId, { operationId, fence, work }) {
      if (fence === undefined || work === undefined) return;
      const { phase, doneBytes } = work;
      const kept = keepSamples(samples.get(operationId) ?? [], { timeMs: Date.now(), phase, doneBytes });
      const json = toJson(OperationProgressSchema, computeProgress(work, kept));
      const changed = await catalog.transaction((tx) =>
        changeOperation(
          tx,
          { id: operationId, hostId, states: ["RUNNING", "CANCELLING", "INDETERMINATE"], fence },
          { progress: json },
        ),
      );
      if (changed === undefined) {
        samples.delete(operationId);
        return;
      }
      samples.set(operationId, kept);
      const { parentId } = changed;
      if (parentId !== null) await catalog.transaction((tx) => noteGroupProgress(tx, parentId));
    },
    forget(operationId) {
      samples.delete(operationId);
    },
  };
}
