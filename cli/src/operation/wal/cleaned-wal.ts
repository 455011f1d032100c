import type { Operation } from "@coppice/proto/gen/coppice/control/v1/operation";
import {
  type CleanedStretch,
  type CleanedWal,
  UnneededReason,
} from "@coppice/proto/gen/coppice/control/v1/physical_operation";
import { formatSize } from "@coppice/proto/kit/size";
import { formatElapsed } from "../../output/elapsed.ts";
import { formatSuccess } from "../../output/success.ts";
import type { Terminal } from "../../output/terminal.ts";

const count = (number: number, noun: string) => `${number} ${noun}${number === 1 ? "" : "s"}`;

/** How many objects go or went, and their bytes as stored. */
export function sumOfCleaned({ stretches, parts, partsBytes, anchors, claims }: CleanedWal): {
  readonly objects: number;
  readonly bytes: bigint;
} {
  return {
    objects: stretches.reduce((sum, { objects }) => sum + objects, parts + anchors + claims),
    bytes: stretches.reduce((sum, { bytes }) => sum + bytes, partsBytes),
  };
}

/** What went of archived WAL, or would, stretch by stretch with its reason. */
export function formatCleanedWal(
  result: CleanedWal,
  { spec }: Operation,
  {
    paint,
    tookMs,
    isAsked = false,
  }: {
    readonly paint: Terminal["paint"];
    readonly tookMs: number;
    /** Whether it is shown to be confirmed. */
    readonly isAsked?: boolean;
  },
): string {
  if (spec.case !== "cleanWal") return "";
  const { clusterName, repositoryName, dryRun, backedUp } = spec.value;
  const where = `of ${clusterName} in ${repositoryName}`;
  const { objects, bytes } = sumOfCleaned(result);
  if (objects === 0) {
    const facts = backedUp ? [] : ["there is no physical backup: the first one may need any of it"];
    return formatSuccess(paint, `all WAL ${where} is needed, nothing ${dryRun ? "would be" : "was"} deleted`, {
      facts,
    });
  }
  const what = `${count(objects, "object")} of WAL ${where}`;
  const facts = result.stretches.filter((stretch) => stretch.objects > 0).map(describeStretch);
  if (result.parts > 0)
    facts.push(`${count(result.parts, "part")} of segments that are stored whole, ${formatSize(result.partsBytes)}`);
  const beside = [
    ...(result.anchors > 0 ? [count(result.anchors, "clock anchor")] : []),
    ...(result.claims > 0 ? [count(result.claims, "claim")] : []),
  ];
  if (beside.length > 0) facts.push(`and what belongs to it: ${beside.join(", ")}`);
  if (dryRun) {
    facts.push("nothing that can be recovered to is lost by it");
    const would = `${what} would be deleted, ${formatSize(bytes)}`;
    if (isAsked) return formatSuccess(paint, would, { facts });
    return formatSuccess(paint, `${would}; nothing was done`, {
      facts,
      next: `coppice wal cleanup ${clusterName} --in ${repositoryName}`,
    });
  }
  if (result.stays) facts.push(result.stays);
  return formatSuccess(
    paint,
    `${what} ${objects === 1 ? "is" : "are"} deleted, ${formatSize(bytes)} in ${formatElapsed(tookMs)}`,
    { facts, next: `coppice wal status ${clusterName}` },
  );
}

function describeStretch({ unneeded, objects, bytes }: CleanedStretch): string {
  const { timeline = 0, startLsn = "", endLsn = "" } = unneeded?.stretch ?? {};
  const range = `timeline ${timeline}, ${startLsn} to ${endLsn}: ${count(objects, "object")}, ${formatSize(bytes)}`;
  return `${range}; ${reasonOf(unneeded?.reason, unneeded?.backup ?? "")}`;
}

function reasonOf(reason: UnneededReason | undefined, backup: string): string {
  const oldest = backup === "" ? "the oldest backup" : `${backup}, the oldest backup that leads on from there`;
  switch (reason) {
    case UnneededReason.BEFORE_BACKUPS:
      return `before ${oldest}`;
    case UnneededReason.BEFORE_GAP:
      return `before a gap, and before ${oldest}`;
    case UnneededReason.ABANDONED:
      return "no backup leads to it";
    case UnneededReason.LEFT_OVER:
      return "left of an earlier deletion";
    case UnneededReason.UNSPECIFIED:
    case undefined:
      return "nothing needs it";
  }
}
