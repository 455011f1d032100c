import type { WorkDone } from "@coppice/proto/gen/coppice/common/v1/progress";
import { formatSize } from "@coppice/proto/kit/size";
import { showName } from "./show-name.ts";

/** Says on stderr what goes on; disposing wipes the line that is left on a terminal. */
export interface Progress extends Disposable {
  readonly update: (work: WorkDone) => void;
  /** A line out of turn. */
  readonly note: (line: string) => void;
}

const lineEveryMs = 10_000;
const showEveryMs = 200;

/** Phase, item, share, rate and time left, as far as they are known. `ms` is since the phase began. */
function formatWork({ phase, item, doneBytes, totalBytes, doneItems, totalItems }: WorkDone, ms: number): string {
  const parts = [item === "" ? phase : `${phase} ${showName(item)}`];
  if (totalItems) parts.push(`${doneItems}/${totalItems}`);
  if (totalBytes)
    parts.push(`${(100n * doneBytes) / totalBytes} %`, `${formatSize(doneBytes)} of ${formatSize(totalBytes)}`);
  if (doneBytes > 0n && ms > 1000) {
    const perSecond = (Number(doneBytes) * 1000) / ms;
    parts.push(`${formatSize(perSecond)}/s`);
    if (totalBytes) parts.push(`${Math.ceil(Number(totalBytes - doneBytes) / perSecond)} s left`);
  }
  return parts.join("  ");
}

/** One line that is written over and over on a terminal; elsewhere a line for each event, and at least each 10 s. */
export function openProgress(stderr: NodeJS.WriteStream): Progress {
  let [phase, event, begun, shown] = ["", "", 0, -Infinity];
  const wipe = () => {
    if (stderr.isTTY) stderr.write("\r\u001B[K");
  };
  return {
    update(work) {
      const now = performance.now();
      if (work.phase !== phase) [phase, begun] = [work.phase, now];
      const seen = `${work.phase} ${work.item}`;
      if (seen === event && now - shown < (stderr.isTTY ? showEveryMs : lineEveryMs)) return;
      [event, shown] = [seen, now];
      const text = formatWork(work, now - begun);
      stderr.write(stderr.isTTY ? `\r\u001B[K${text.slice(0, (stderr.columns || 80) - 1)}` : `${text}\n`);
    },
    note(line) {
      wipe();
      stderr.write(`${line}\n`);
    },
    [Symbol.dispose]: wipe,
  };
}
