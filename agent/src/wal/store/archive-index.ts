import { rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { formatLsn, parseLsn } from "@coppice/proto/kit/wal/lsn";
import { type AppendFile, openAppendFile } from "../../journal/append-file.ts";
import { syncFolder } from "../../journal/durable-file.ts";
import { formatLinks, parseLinks } from "../content/links-text.ts";
import type { RecordLinks } from "../content/record-links.ts";
import { addExtent, type WalExtent } from "./extent.ts";

/** What an agent knows to have stored, on its own disk: what it answers for without asking the repository. */
export interface ArchiveIndex extends AsyncDisposable {
  /** Whether nothing was ever recorded in it: then what the repository holds is not known here. */
  readonly isNew: boolean;
  /** In the order of timeline and position. */
  readonly extents: readonly WalExtent[];
  /** SHA-256 of the plain bytes stored under a name, where one was recorded; only the newest few thousand are kept. */
  digestOf(name: string): string | undefined;
  /** The links of the segment that is stored from there on, where they were recorded; only some of the newest are kept. */
  linksOf(segment: Pick<WalExtent, "timeline" | "startLsn">): RecordLinks | undefined;
  /** Records a stored file; durable when it resolves. */
  add(stored: StoredWal): Promise<void>;
  /** Records what was found in the repository. */
  addFound(extents: readonly WalExtent[]): Promise<void>;
}

/** A file that was stored. */
export interface StoredWal {
  readonly name: string;
  readonly sha256: string | undefined;
  readonly run: WalExtent;
  /** Of a whole segment. */
  readonly links?: RecordLinks | undefined;
}

const keptDigests = 5000;
/** More than are stored at once, ahead of their order. */
const keptLinks = 100;

interface Line {
  readonly run: WalExtent;
  readonly digest: { readonly name: string; readonly sha256: string } | undefined;
  readonly links?: RecordLinks | undefined;
}

/** Opens or makes the index; a line that cannot be read makes it empty, so that the repository is asked again. */
export async function openArchiveIndex(path: string): Promise<ArchiveIndex> {
  let extents: WalExtent[] = [];
  let digests = new Map<string, string>();
  const links = new Map<string, RecordLinks & { readonly run: WalExtent }>();
  const opened = await openAppendFile(path);
  let { file } = opened;
  let count = opened.lines.length;
  for (const line of opened.lines) {
    const [, timeline, start = "", end = "", name, sha256, linked = ""] = form.exec(line) ?? [];
    if (timeline === undefined) {
      extents = [];
      digests = new Map();
      links.clear();
      continue;
    }
    const run = { timeline: Number(timeline), startLsn: parseLsn(start), endLsn: parseLsn(end) };
    extents = addExtent(extents, run);
    const found = parseLinks(linked);
    if (found) keepLinks(run, found);
    if (name !== undefined && sha256 !== undefined) digests.set(name, sha256);
  }
  const format = ({ timeline, startLsn, endLsn }: WalExtent, rest = "") =>
    `${timeline} ${formatLsn(startLsn)} ${formatLsn(endLsn)}${rest}\n`;
  function keepLinks(run: WalExtent, found: RecordLinks): void {
    links.delete(keyOf(run));
    links.set(keyOf(run), { ...found, run });
    const [oldest] = links.keys();
    if (oldest !== undefined && links.size > keptLinks) links.delete(oldest);
  }
  // What is added while lines are on their way to the disk goes there together.
  let turn = Promise.resolve();
  let next: { readonly lines: Line[]; readonly written: Promise<void> } | undefined;
  function append(line: Line): Promise<void> {
    if (!next) {
      const lines: Line[] = [];
      turn = turn
        .catch(() => {})
        .then(() => {
          next = undefined;
          return write(lines);
        });
      next = { lines, written: turn };
    }
    next.lines.push(line);
    return next.written;
  }
  async function write(lines: readonly Line[]): Promise<void> {
    await file.append(
      lines.map((line) => format(line.run, `${formatDigest(line.digest)}${formatFound(line.links)}`)).join(""),
    );
    for (const { run, digest, links: found } of lines) {
      extents = addExtent(extents, run);
      if (found) keepLinks(run, found);
      if (digest) digests.set(digest.name, digest.sha256);
    }
    count += lines.length;
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
    const linked = [...links.values()].map((found) => format(empty(found.run), formatFound(found))).join("");
    count = digests.size + extents.length + links.size;
    const fresh = await makeBeside(whole + known + linked);
    if (fresh === undefined) return;
    await file[Symbol.asyncDispose]();
    file = fresh;
    await syncFolder(dirname(path));
  }
  /** The shorter file in its place; nothing where that could not be made, as what was added is durable in the old one. */
  async function makeBeside(content: string): Promise<AppendFile | undefined> {
    const beside = `${path}.new`;
    let fresh: AppendFile | undefined;
    try {
      await rm(beside, { force: true });
      ({ file: fresh } = await openAppendFile(beside));
      await fresh.append(content);
      await rename(beside, path);
      return fresh;
    } catch {
      await fresh?.[Symbol.asyncDispose]();
      return undefined;
    }
  }
  return {
    isNew: opened.lines.length === 0,
    get extents() {
      return extents;
    },
    digestOf: (name) => digests.get(name),
    linksOf: (segment) => links.get(keyOf(segment)),
    add: ({ name, sha256, run, links: found }) =>
      append({ run, digest: sha256 === undefined ? undefined : { name, sha256 }, links: found }),
    async addFound(found) {
      await Promise.all(found.map((run) => append({ run, digest: undefined })));
    },
    async [Symbol.asyncDispose]() {
      await turn.catch(() => {});
      await file[Symbol.asyncDispose]();
    },
  };
}

/** Timeline, beginning, end; of a file its name and digest, of a segment its links. */
const form =
  /^(\d+) ([0-9A-F/]+) ([0-9A-F/]+)(?: ([0-9A-Za-z.]+) ([0-9a-f]{64}))?(?: links ([0-9A-F/-]+ [0-9A-F/-]+))?$/;
const keyOf = ({ timeline, startLsn }: Pick<WalExtent, "timeline" | "startLsn">) => `${timeline} ${startLsn}`;
const formatFound = (links: RecordLinks | undefined) => (links ? ` links ${formatLinks(links)}` : "");
const formatDigest = (digest: Line["digest"]) => (digest ? ` ${digest.name} ${digest.sha256}` : "");

/** A run that adds nothing, for a line that is only about a digest. */
function empty({ timeline, startLsn }: WalExtent): WalExtent {
  return { timeline, startLsn, endLsn: startLsn };
}
