import { type Operation, OperationState } from "@coppice/proto/gen/coppice/control/v1/operation";
import { OperationStateSchema } from "@coppice/proto/gen/coppice/control/v1/operation";
import { formatSize } from "@coppice/proto/kit/size";
import { formatElapsed } from "../output/elapsed.ts";
import { enumLabel } from "../output/enum-label.ts";
import { printable } from "../output/printable.ts";
import type { Terminal } from "../output/terminal.ts";
import { cutText } from "../output/text-width.ts";

/** How far an operation has come, on one line: phase, item, share, bytes, rate, time left. */
export function formatProgress(operation: Pick<Operation, "state" | "stateReason" | "progress">): string {
  const { state, stateReason, progress } = operation;
  const work = progress?.work;
  // Work whose agent is away has a reason: then its figures are of no use.
  const isRunning = state === OperationState.RUNNING && stateReason === "";
  const parts = [isRunning && work?.phase ? work.phase : enumLabel(OperationStateSchema, state)];
  if (!isRunning && stateReason) parts[0] += `: ${stateReason}`;
  if (isRunning && work) {
    if (work.item) parts[0] += ` ${work.item}`;
    if (work.totalItems) parts.push(`${work.doneItems}/${work.totalItems}`);
    if (progress.percent !== undefined) parts.push(`${Math.floor(progress.percent)} %`);
    if (work.totalBytes) parts.push(`${formatSize(work.doneBytes)} of ${formatSize(work.totalBytes)}`);
    else if (work.doneBytes > 0n) parts.push(formatSize(work.doneBytes));
    if (progress.bytesPerSecond) parts.push(`${formatSize(progress.bytesPerSecond)}/s`);
    if (progress.remaining) parts.push(`${formatElapsed(Number(progress.remaining.seconds) * 1000)} left`);
  }
  return printable(parts.join("  "));
}

/** Shows what goes on while an operation is watched; disposing wipes the line that is left. */
export interface ProgressDisplay extends Disposable {
  readonly update: (operation: Operation) => void;
  /** Shows something out of turn. */
  readonly note: (text: string) => void;
}

const lineEveryMs = 10_000;

/** One line that is written over and over on a terminal; elsewhere a line for each event, and at least each 10 s. */
export function openProgress(terminal: Terminal): ProgressDisplay {
  let shownEvent = "";
  let shownTime = 0;
  const wipe = () => {
    if (terminal.stderrIsTty) terminal.err("\r\u001B[K");
  };
  return {
    update: (operation) => {
      const text = formatProgress(operation);
      if (terminal.stderrIsTty) {
        terminal.err(`\r\u001B[K${cutText(text, terminal.columns() - 1)}`);
        return;
      }
      const work = operation.progress?.work;
      const event = `${operation.state} ${operation.stateReason} ${work?.phase} ${work?.item}`;
      const now = Date.now();
      if (event === shownEvent && now - shownTime < lineEveryMs) return;
      shownEvent = event;
      shownTime = now;
      terminal.err(`${operation.id} ${text}\n`);
    },
    note: (text) => {
      wipe();
      terminal.err(`${printable(text)}\n`);
    },
    [Symbol.dispose]: wipe,
  };
}
