import { type Operation, OperationSchema, OperationState } from "@coppice/proto/gen/coppice/control/v1/operation";
import type { Api } from "../../client/api.ts";
import { confirm } from "../../input/confirm.ts";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { RestoreRequestSchema } from "@coppice/proto/gen/coppice/control/v1/restore";
import { isPartAtPoint } from "../../input/restore/part-flags.ts";
import { isDataDirectory } from "../../input/restore/data-directory-flags.ts";
import { type RestoreFlags, readRestoreRequest } from "../../input/restore/restore-flags.ts";
import { conclude, type OperationOptions, seeThrough } from "../../operation/conclude.ts";
import { followOperation } from "../../operation/follow.ts";
import { namePart, placePart } from "../../operation/name-part.ts";
import { formatOutcome, sawTrouble } from "../../operation/outcome.ts";
import { describeTarget } from "../../operation/physical.ts";
import { protoJson } from "../../output/proto-json.ts";
import type { Session } from "../../session.ts";
import { swapOnceConfirmed } from "./decide.ts";

/** What is said of a restore beside what it is. */
export interface RestoreOptions extends OperationOptions {
  readonly yes?: boolean;
  readonly dryRun?: boolean;
}

/** Restores as the flags say, or only checks them, and gives the exit code; what replaces something is confirmed first. */
export async function runRestore(
  session: Session,
  options: RestoreOptions,
  cluster: string,
  flags: RestoreFlags,
): Promise<number> {
  // Read once: "2 hours ago" is the same moment in what is shown first and in what is done.
  let restore = await readRestoreRequest(cluster, flags, session.now());
  const api = await session.api();
  if (options.dryRun) {
    const operation = await api.restores.createRestore({ restore, validateOnly: true });
    const text = `${describeRestore(operation)}; nothing was done`;
    const next = "coppice restore plan, with the same flags, looks closer";
    await session.answer({
      json: () => protoJson(OperationSchema, operation),
      table: () => session.success(text, { facts: warningsOf(operation).map((warning) => `! ${warning}`), next }),
      names: () => [targetOf(operation)],
    });
    return 0;
  }
  // What is restored to a point waits beside until the difference has been seen.
  const isDecidedLater = flags.replace === true && isPartAtPoint(flags);
  if (flags.replace && !isDecidedLater && !options.yes) {
    if (session.terminal.stdinIsTty) {
      // Whoever is asked sees first what would happen.
      const plan = await showPlan(session, api, restore);
      if ("refused" in plan) return plan.refused;
      // What is confirmed is what was shown, also when a newer backup has ended meanwhile.
      restore = { ...restore, backup: plan.backup };
    }
    await confirmReplacing(session, cluster, flags);
  }
  const operation = await api.restores.createRestore({ restore, requestId: session.newRequestId() });
  if (isDecidedLater) return await swapOnceConfirmed(session, api, operation, options);
  return await seeThrough(session, api, operation, options);
}

/** The exit code of a restore that would be refused, or the backup (bkp_…) that was planned with; empty for a file. */
export type ShownPlan = { readonly refused: number } | { readonly backup: string };

/** Shows the agent's plan of a restore, and says what came of it. */
export async function showPlan(
  session: Session,
  api: Api,
  restore: MessageInitShape<typeof RestoreRequestSchema>,
): Promise<ShownPlan> {
  const { terminal } = session;
  const started = await api.restores.planRestore({ restore, requestId: session.newRequestId() });
  const planned = await followOperation(session, api, started.id);
  if (planned.state !== OperationState.SUCCEEDED || sawTrouble(planned))
    return { refused: await conclude(session, api, planned) };
  terminal.err(formatOutcome(planned, { paint: terminal.paintErr, now: session.now() }));
  return { backup: plannedBackup(planned) };
}

function plannedBackup({ result }: Operation): string {
  if (result.case === "physicalPlan") return result.value.chain.at(-1) ?? "";
  return result.case === "restorePlan" ? result.value.backup : "";
}

/** Lets a person type the name of what would be replaced. Errors: CONFIRMATION_NEEDED. */
export async function confirmReplacing(session: Session, cluster: string, flags: RestoreFlags): Promise<void> {
  const target = flags.to ?? cluster;
  if (isDataDirectory(flags)) {
    await confirm(session, { yes: false, what: `what is in ${target} is moved aside`, name: target });
    return;
  }
  if (flags.all) {
    const what = `every database of the backup is replaced in ${target}, and everybody in them is disconnected`;
    await confirm(session, { yes: false, what, name: target });
    return;
  }
  const name = flags.as ?? flags.database ?? "";
  const what = `database ${name} in ${target} is replaced, and everybody in it is disconnected`;
  await confirm(session, { yes: false, what, name });
}

/** What an operation that was only checked would do. */
function describeRestore({ spec, hostName }: Operation): string {
  switch (spec.case) {
    case "createRestore": {
      const { database, file, backup, targetClusterName, targetDatabase, into } = spec.value;
      const what = file === "" ? `${database} of ${backup}` : [database, file].filter(Boolean).join(" of ");
      const place = into
        ? `into the present ${targetDatabase} of ${targetClusterName}`
        : `into ${targetClusterName} as ${targetDatabase}`;
      return `${what} would be restored ${place}`;
    }
    case "restoreGlobals":
      return `the globals of ${spec.value.backup} would be restored into ${spec.value.targetClusterName}`;
    case "restoreCluster": {
      const { backup, databases, targetClusterName, replace } = spec.value;
      const how = replace ? ", replacing those of the same names" : "";
      return `${backup} would be restored into ${targetClusterName}: the globals, then ${databases.join(", ")}${how}`;
    }
    case "recoverPart": {
      const { restore, scratch } = spec.value;
      const chain = (restore?.chain ?? []).join(", then ");
      return `${namePart(spec.value)} would be brought back ${placePart(spec.value, hostName)}, ${describeTarget(restore?.target)}, from ${chain}, by way of ${hostName}:${scratch}`;
    }
    case "restorePhysical": {
      const { clusterName, chain, target, dataDirectory, start } = spec.value;
      const how = start ? ", and its server started" : "";
      return `${clusterName} would be restored from ${chain.join(", then ")} into ${hostName}:${dataDirectory}, ${describeTarget(target)}${how}`;
    }
    default:
      return "it would be restored";
  }
}

function warningsOf({ spec }: Operation): readonly string[] {
  if (spec.case === "restorePhysical") return spec.value.warnings;
  return spec.case === "recoverPart" ? (spec.value.restore?.warnings ?? []) : [];
}

function targetOf({ spec }: Operation): string {
  if (spec.case === "createRestore") return spec.value.targetDatabase;
  if (spec.case === "recoverPart") return spec.value.file || spec.value.targetDatabase;
  if (spec.case === "restorePhysical") return spec.value.dataDirectory;
  if (spec.case === "restoreGlobals" || spec.case === "restoreCluster") return spec.value.targetClusterName;
  return "";
}
