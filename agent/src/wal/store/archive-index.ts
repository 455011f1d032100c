import { formatLsn, parseLsn } from "@coppice/proto/kit/wal/lsn";
import { openAppendFile } from "../../journal/append-file.ts";
import { replaceFile } from "../../journal/durable-file.ts";
import { addExtent, type WalExtent } from "./extent.ts";

/** What an agent knows to have stored, on its own disk: what it answers for without asking the repository. */
export interface ArchiveIndex extends AsyncDisposable {
  /** In the order of timeline and position. */
  readonly extents: readonly WalExtent[];
  /** SHA-256 of the plain bytes stored under a name; only the newest few thousand are kept. */
  digestOf(name: string): string | undefined;
  /** Records a stored file; durable when it resolves. */
  add(stored: { readonly name: string; readonly sha256: string; readonly run: WalExtent }): Promise<void>;
  /** Records what was found in the repository. */
  addFound(extents: readonly WalExtent[]): Promise<void>;
}

const keptDigests = 5000;

/** Opens or makes the index; a line that cannot be read makes it empty, so that the repository is asked again. */
export async function openArchiveIndex(path: string): Promise<ArchiveIndex> {
  let extents: WalExtent[] = [];
  let digests = new Map<string, string>();
  const opened = await openAppendFile(path);
  let { file } = opened;
  let count = opened.lines.length;
  for (const line of opened.lines) {
    const [, timeline, start = "", end = "", name, sha256] =
      /^(\d+) ([0-9A-F/]+) ([0-9A-F/]+)(?: ([0-9A-Za-z.]+) ([0-9a-f]{64}))?$/.exec(line) ?? [];
    if (timeline === undefined) {
      extents = [];
      digests = new Map();
      continue;
    }
    extents = addExtent(extents, { timeline: Number(timeline), startLsn: parseLsn(start), endLsn: parseLsn(end) });
    if (name !== undefined && sha256 !== undefined) digests.set(name, sha256);
  }
  const format = ({ timeline, startLsn, endLsn }: WalExtent, rest = "") =>
    `${timeline} ${formatLsn(startLsn)} ${formatLsn(endLsn)}${rest}\n`;
  // One line after the other: several segments are stored at once.
  let turn = Promise.resolve();
  const append = (run: WalExtent, digest?: { name: string; sha256: string }) =>
    (turn = turn.catch(() => {}).then(() => write(run, digest)));
  async function write(run: WalExtent, digest: { name: string; sha256: string } | undefined): Promise<void> {
    await file.append(format(run, digest ? ` ${digest.name} ${digest.sha256}` : ""));
    extents = addExtent(extents, run);
    if (digest) digests.set(digest.name, digest.sha256);
    count += 1;
    if (count < 2 * keptDigests) return;
    for (const name of digests.keys()) {
      if (digests.size <= keptDigests) break;
      digests.delete(name);
    }
    const whole = extents.map((extent) => format(extent)).join("");
    const [first] = extents;
    const known = first
      ? [...digests].map(([name, sha256]) => format(empty(first), ` ${name} ${sha256}`)).join("")
      : "";
    await file[Symbol.asyncDispose]();
    await replaceFile(path, whole + known);
    ({ file } = await openAppendFile(path));
    count = digests.size + extents.length;
  }
  return {
    get extents() {
      return extents;
    },
    digestOf: (name) => digests.get(name),
    add: ({ name, sha256, run }) => append(run, { name, sha256 }),
    async addFound(found) {
      for (const run of found) await append(run);
    },
    async [Symbol.asyncDispose]() {
      await turn.catch(() => {});
      await file[Symbol.asyncDispose]();
    },
  };
}

/** A run that adds nothing, for a line that is only about a digest. */
function empty({ timeline, startLsn }: WalExtent): WalExtent {
  return { timeline, startLsn, endLsn: startLsn };
}
