import type { Operation, VerifiedBackup } from "@coppice/proto/gen/coppice/control/v1/operation";
import type { VerifiedWal } from "@coppice/proto/gen/coppice/control/v1/physical_operation";
import { formatSize } from "@coppice/proto/kit/size";
import { formatElapsed } from "../output/elapsed.ts";
import { printable } from "../output/printable.ts";
import { formatSuccess } from "../output/success.ts";
import type { Terminal } from "../output/terminal.ts";

interface Context {
  readonly paint: Terminal["paint"];
  readonly tookMs: number;
}

const count = (number: number | bigint, noun: string) => `${number} ${noun}${Number(number) === 1 ? "" : "s"}`;

/** How much was read, in what time, and how fast; of less than a second no speed is worth telling. */
export function describeRead(objects: number, bytes: bigint, tookMs: number): string {
  const speed = tookMs < 1000 ? "" : `, ${formatSize(BigInt(Math.round((Number(bytes) / tookMs) * 1000)))}/s`;
  return `${count(objects, "object")}, ${formatSize(bytes)} re-read in ${formatElapsed(tookMs)}${speed}`;
}

/** What a verification of a backup read. */
export function formatVerifiedBackup(result: VerifiedBackup, { spec }: Operation, { paint, tookMs }: Context): string {
  const { backup, parents, objects, bytes } = result;
  const chain = parents.length === 0 ? "" : ` with the ${count(parents.length, "backup")} that it builds on`;
  const decoded = spec.case === "verifyBackup" && spec.value.content ? ", and all of it was decoded and parsed" : "";
  return formatSuccess(
    paint,
    `${backup} verified${chain}: ${describeRead(objects, bytes, tookMs)}, every digest matches${decoded}`,
    { next: `coppice backup recipe ${backup}` },
  );
}

/** What is wrong with archived WAL, a line each, and what cannot be replayed because of it. */
export function formatWalProblems({ problems }: VerifiedWal): string {
  return problems
    .map(({ key, message, stretch }) => {
      const what = stretch ? `; lost: ${stretch.startLsn} to ${stretch.endLsn} on timeline ${stretch.timeline}` : "";
      return `  ${key === "" ? "" : `${printable(key)}: `}${printable(message)}${what}\n`;
    })
    .join("");
}

/** What a verification of archived WAL read. */
export function formatVerifiedWal(result: VerifiedWal, { spec }: Operation, { paint, tookMs }: Context): string {
  const { objects, bytes, plainBytes, records, replacedParts, undecoded } = result;
  const { clusterName, repositoryName } =
    spec.case === "verifyWal" ? spec.value : { clusterName: "", repositoryName: "" };
  const facts = [`${formatSize(plainBytes)} of WAL, the checksums of ${count(records, "record")} match`];
  if (undecoded > 0)
    facts.push(`! ${count(undecoded, "object")} not looked into, encrypted: --content on a host that may decrypt`);
  if (replacedParts > 0)
    facts.push(`${count(replacedParts, "part")} of segments not read: there is more of the segment, which was`);
  const came = undecoded > 0 ? "is there and can be read" : "verified";
  return formatSuccess(
    paint,
    `WAL of ${clusterName} in ${repositoryName} ${came}: ${describeRead(objects, bytes, tookMs)}`,
    { facts, next: `coppice wal status ${clusterName}` },
  );
}
