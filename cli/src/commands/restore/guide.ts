// One thing: the questions of a guided restore, in the order in which they are asked.
import { BackupKind } from "@coppice/proto/gen/coppice/common/v1/backup_kind";
import type { Backup } from "@coppice/proto/gen/coppice/control/v1/backup";
import type { Cluster } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { fail } from "@coppice/proto/kit/failure";
import { nameCopy } from "@coppice/proto/kit/repository/restore-names";
import { formatSize } from "@coppice/proto/kit/size";
import type { Api } from "../../client/api.ts";
import { isGoodBackup } from "../../client/is-good-backup.ts";
import { collectPages } from "../../client/pages.ts";
import { exitCodes } from "../../exit-code.ts";
import { type Choice, type Dialogue, openDialogue } from "../../input/choose.ts";
import { formatRestoreCommand, readRestoreRequest, type RestoreFlags } from "../../input/restore/restore-flags.ts";
import { splitList, unquoteName } from "../../input/restore/split-names.ts";
import type { OperationOptions } from "../../operation/conclude.ts";
import { formatRelative } from "../../output/elapsed.ts";
import { timeOf } from "../../output/time.ts";
import type { Session } from "../../session.ts";
import { chooseFile } from "./choose-file.ts";
import { choosePoint } from "./choose-point.ts";
import { dumpChoices } from "./dump-choices.ts";
import { confirmReplacing, runRestore, showPlan } from "./run.ts";

const mostBackups = 200;
const byFlags =
  "say it by flags: coppice restore create CLUSTER --database NAME --as COPY; all of them: coppice restore create --help";

type What = "databases" | "schemas" | "tables" | "cluster" | "globals";

/** What the answers come to: restores that are done one after the other. */
interface Decision {
  readonly cluster: string;
  readonly restores: readonly RestoreFlags[];
}

/**
 * Asks at the terminal what is to be restored and where to, shows what would be done, lets what replaces something be
 * confirmed by its name, says which command line does the same, and does it. Until then nothing has been changed.
 */
export async function guide(session: Session, options: OperationOptions): Promise<number> {
  const dialogue = await openDialogue(session, byFlags);
  const api = await session.api();
  const { cluster, restores } = await decide(session, api, dialogue);
  for (const flags of restores) {
    const restore = await readRestoreRequest(cluster, flags, session.now());
    const plan = await showPlan(session, api, restore);
    if ("refused" in plan) return plan.refused;
  }
  const { terminal } = session;
  const line = restores.map((flags) => formatRestoreCommand(cluster, flags)).join(" && ");
  terminal.err(`  the same as one line: ${line}\n`);
  const replacing = restores.filter(({ replace }) => replace);
  for (const flags of replacing) await confirmReplacing(session, cluster, flags);
  if (replacing.length === 0 && !(await dialogue.agree("restore it now?"))) {
    terminal.err("nothing was restored\n");
    return exitCodes.done;
  }
  for (const flags of restores) {
    const exitCode = await runRestore(session, { ...options, yes: true }, cluster, flags);
    if (exitCode !== exitCodes.done) return exitCode;
  }
  return exitCodes.done;
}

async function decide(session: Session, api: Api, dialogue: Dialogue): Promise<Decision> {
  const { items: clusters } = await collectPages(
    (page) => api.clusters.listClusters({ page }),
    (page) => page.clusters,
  );
  const source = await chooseSource(session, dialogue, clusters);
  if (source === "file") {
    const { cluster, flags } = await chooseFile(dialogue, clusters);
    return { cluster, restores: [flags] };
  }
  const backup = await chooseBackup(session, api, dialogue, source);
  if (backup === "point") {
    const flags = await choosePoint(dialogue, { source, targets: targetsOf(clusters, source), now: session.now() });
    return { cluster: source.name, restores: [flags] };
  }
  const what = await dialogue.select<What>("what is to be restored?", [
    { name: "one or more databases", value: "databases" },
    { name: "schemas of one database", value: "schemas" },
    { name: "tables of one database", value: "tables" },
    { name: "the whole cluster: globals and every database", value: "cluster" },
    { name: "only the globals: roles and tablespaces", value: "globals" },
  ]);
  const common = { backup: backup.id };
  const targets = targetsOf(clusters, source);
  switch (what) {
    case "databases": {
      const chosen = await dialogue.selectMany("which databases? (space chooses)", databasesOf(backup));
      const restores = await placeDatabases(dialogue, { source, targets, databases: chosen });
      return { cluster: source.name, restores: restores.map((flags) => ({ ...flags, ...common })) };
    }
    case "schemas":
    case "tables": {
      const database = await dialogue.select("of which database?", databasesOf(backup));
      const part = await askParts(dialogue, what);
      const place = await placePart(dialogue, { source, targets, database, what });
      return { cluster: source.name, restores: [{ database, ...common, ...place, ...part }] };
    }
    case "cluster": {
      const to = await chooseTarget(dialogue, {
        source,
        targets,
        same: "in place, keeping the present databases aside",
      });
      const place = to === source.name ? { replace: true } : { to };
      return { cluster: source.name, restores: [{ all: true, ...common, ...place }] };
    }
    case "globals": {
      const to = await chooseTarget(dialogue, { source, targets, same: "the same cluster" });
      return { cluster: source.name, restores: [{ globals: true, ...common, ...(to === source.name ? {} : { to }) }] };
    }
  }
}

async function chooseSource(
  session: Session,
  dialogue: Dialogue,
  clusters: readonly Cluster[],
): Promise<Cluster | "file"> {
  if (clusters.length === 0) {
    fail("CLUSTER_NOT_FOUND", "there is no cluster to restore from", {
      hint: "add one: coppice cluster add NAME; or read a repository: coppice repo rebuild NAME",
    });
  }
  const choices = clusters.map((cluster) => {
    const good = timeOf(cluster.lastGoodDump?.time);
    const age = good ? `last good backup ${formatRelative(good, session.now())}` : "no good backup";
    return { name: `${cluster.name}  ${age}`, value: cluster };
  });
  return await dialogue.select<Cluster | "file">("restore from which cluster?", [
    ...choices,
    { name: "none of them: a dump that Coppice did not make, in a file on a host", value: "file" },
  ]);
}

/** A dump, or `point` for what physical backups and archived WAL hold. */
async function chooseBackup(
  session: Session,
  api: Api,
  dialogue: Dialogue,
  { name }: Cluster,
): Promise<Backup | "point"> {
  const { items } = await collectPages(
    (page) => api.backups.listBackups({ page, cluster: name }),
    (page) => page.backups,
    mostBackups,
  );
  const backups = items.filter(({ kind }) => kind === BackupKind.DUMP);
  // Of a physical one a database or table comes by a point in time; all of it goes into a data directory, by flags.
  const hasPhysical = items.some((backup) => backup.kind !== BackupKind.DUMP && isGoodBackup(backup));
  if (backups.length === 0 && !hasPhysical) {
    fail("BACKUP_NOT_FOUND", `cluster ${name} has no dump`, {
      hint:
        items.length === 0
          ? `take one: coppice backup create ${name}`
          : `restore its physical backup: coppice restore plan ${name} --to HOST:/EMPTY/DIRECTORY --start`,
    });
  }
  const point = { name: "a point in time: one database or table, as it was then", value: "point" } as const;
  return await dialogue.select<Backup | "point">("which backup?", [
    ...dumpChoices(backups, session.now()),
    ...(hasPhysical ? [point] : []),
  ]);
}

/** Databases that every cluster has come last: they are seldom what somebody lost. */
function databasesOf({ databases }: Backup): Choice<string>[] {
  const isBuiltIn = (name: string) => name === "postgres" || name === "template1";
  return databases
    .toSorted((a, b) => Number(isBuiltIn(a.name)) - Number(isBuiltIn(b.name)))
    .map(({ name, sizeBytes }) => ({ name: `${name}  ${formatSize(sizeBytes)}`, value: name }));
}

interface Places {
  readonly source: Cluster;
  /** Clusters with a server, the source left out. */
  readonly targets: readonly Cluster[];
}

function targetsOf(clusters: readonly Cluster[], source: Cluster): Cluster[] {
  return clusters.filter(({ id, instances }) => id !== source.id && instances.length > 0);
}

/** The cluster itself, called `same`, or another one: its name. */
async function chooseTarget(dialogue: Dialogue, { source, targets, same }: Places & { same: string }): Promise<string> {
  const isThere = source.instances.length > 0;
  const own = { name: `${source.name}: ${same}`, value: source.name };
  const others = targets.map(({ name }) => ({ name: `${name}: another cluster`, value: name }));
  requireSome([...(isThere ? [own] : []), ...others], source);
  return await dialogue.select("where to?", [...(isThere ? [own] : []), ...others]);
}

function requireSome(choices: readonly unknown[], { name }: Cluster): void {
  if (choices.length > 0) return;
  fail("CLUSTER_WITHOUT_SERVER", `there is no server to restore ${name} into`);
}

type Place = "beside" | "replace" | "into" | { readonly to: string };

async function choosePlace(dialogue: Dialogue, { source, targets }: Places, inPlace: Choice<Place>): Promise<Place> {
  const beside: Choice<Place> = { name: `${source.name}, under a new name`, value: "beside" };
  const own = source.instances.length > 0 ? [beside, inPlace] : [];
  const others = targets.map(({ name }): Choice<Place> => ({ name: `${name}: another cluster`, value: { to: name } }));
  requireSome([...own, ...others], source);
  return await dialogue.select("where to?", [...own, ...others]);
}

async function placeDatabases(
  dialogue: Dialogue,
  { databases, ...places }: Places & { readonly databases: readonly string[] },
): Promise<RestoreFlags[]> {
  const inPlace = { name: `${places.source.name}, in place; the present one is kept aside`, value: "replace" } as const;
  const place = await choosePlace(dialogue, places, inPlace);
  if (place === "replace") return databases.map((database) => ({ database, replace: true }));
  const restores: RestoreFlags[] = [];
  for (const database of databases) {
    const initial = place === "beside" ? nameCopy(database, "copy") : database;
    const as = await dialogue.text(`name for the restored ${database}?`, { initial });
    restores.push({
      database,
      ...(as === database ? {} : { as }),
      ...(typeof place === "object" ? place : {}),
    });
  }
  return restores;
}

async function askParts(dialogue: Dialogue, what: "schemas" | "tables"): Promise<RestoreFlags> {
  const form = what === "tables" ? "schema.name" : "name";
  const check = (answer: string) =>
    splitList(answer)?.every((part) => part !== "")
      ? undefined
      : `type ${form}, several separated by commas, what has a comma in it in double quotes`;
  const given = splitList(await dialogue.text(`which ${what}? (${form}, …)`, { check })) ?? [];
  return what === "tables" ? { table: given } : { schema: given.map(unquoteName) };
}

async function placePart(
  dialogue: Dialogue,
  { database, what, ...places }: Places & { readonly database: string; readonly what: "schemas" | "tables" },
): Promise<RestoreFlags> {
  const { name } = places.source;
  const place = await choosePlace(dialogue, places, { name: `${name}, into the present ${database}`, value: "into" });
  if (place === "into") return { into: true };
  const as = await dialogue.text("name for the new database that holds them?", { initial: nameCopy(database, what) });
  return { as, ...(typeof place === "object" ? place : {}) };
}
