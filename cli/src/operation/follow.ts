import type { Operation } from "@coppice/proto/gen/coppice/control/v1/operation";
import type { Api } from "../client/api.ts";
import { isGroup } from "./children.ts";
import { openProgress } from "./progress.ts";
import type { Session } from "../session.ts";
import { hasEnded } from "../client/has-ended.ts";

/**
 * Watches an operation to its end, showing progress, and gives its last snapshot. Ctrl-C leaves it alone, says how to
 * watch and to cancel it, and throws; with `onCancel` the first Ctrl-C cancels it, and the end is awaited.
 */
export async function followOperation(
  session: Session,
  api: Api,
  operation: string,
  { onCancel }: { readonly onCancel?: (() => void) | undefined } = {},
): Promise<Operation> {
  const { terminal, signal, interrupts } = session;
  using progress = openProgress(terminal);
  const cancel = () => {
    onCancel?.();
    progress.note(`cancelling ${operation}; Ctrl-C again leaves it`);
    api.operations.cancelOperation({ operation }).catch((error: unknown) => {
      progress.note(`${operation} was not cancelled: ${api.failureOf(error).message}`);
    });
  };
  using _ = onCancel ? interrupts.takeOver(cancel) : undefined;
  const onLost = () => progress.note(`the control plane at ${api.address} does not answer; trying on`);
  // Of a group the log says what begins and ends; it ends with the group.
  const tell = async () => {
    for await (const { text } of api.watchLog(operation, { follow: true, signal })) progress.note(text);
  };
  try {
    let last: Operation | undefined;
    let told: Promise<void> | undefined;
    for await (const snapshot of api.watchOperation(operation, { signal, onLost })) {
      last = snapshot;
      if (isGroup(snapshot))
        told ??= tell().catch((error: unknown) => {
          if (!signal.aborted) progress.note(`the log of ${operation} is not shown: ${api.failureOf(error).message}`);
        });
      if (!hasEnded(snapshot)) progress.update(snapshot);
    }
    await told;
    // The generator returns only after a terminal snapshot.
    return last ?? (await api.operations.getOperation({ operation }));
  } catch (error) {
    if (signal.aborted) {
      progress.note(`${operation} goes on without you`);
      terminal.err(`  watch:  coppice operation watch ${operation}\n  cancel: coppice operation cancel ${operation}\n`);
    }
    throw error;
  }
}
