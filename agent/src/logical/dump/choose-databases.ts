import { MissingReason } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import { fail } from "@coppice/proto/kit/failure";
import type { ClusterDatabase } from "../databases.ts";
import { isStagedOid } from "../staged-database.ts";

type Listed = Pick<
  ClusterDatabase,
  "oid" | "name" | "allowsConnections" | "mayConnect" | "isProviders" | "isHalfDropped"
>;

/** A database that is wanted and will not be dumped. */
export interface NotDumped {
  readonly name: string;
  readonly reason: MissingReason;
  readonly message: string;
}

/** What a dump takes and what it leaves out, with the reasons. */
export interface ChosenDatabases<T extends Listed> {
  readonly chosen: T[];
  readonly missing: NotDumped[];
}

/** Whether a restore is filling it, or has left it: it is half of something, and may be gone at any moment. */
const isStaged = ({ oid, name }: Listed) => name.startsWith("coppice_restore_") && isStagedOid(oid, name);

/**
 * Which databases a dump takes: those named, or like pg_dumpall every one but template0, so postgres and template1 too:
 * people keep things in both. One that forbids connections, to all or to this role, is missing unless it is left out by
 * name; a provider's own is left out, and unless it is named what a restore works in. Fails with DATABASE_NOT_FOUND for a named one that does not exist.
 */
export function chooseDatabases<T extends Listed>(
  all: readonly T[],
  { databases, excludeDatabases }: { databases: readonly string[]; excludeDatabases: readonly string[] },
): ChosenDatabases<T> {
  const unknown = databases.filter((name) => !all.some((database) => database.name === name));
  if (unknown.length > 0)
    fail("DATABASE_NOT_FOUND", `there is no database ${unknown.map((name) => JSON.stringify(name)).join(", ")}`);
  const chosen: T[] = [];
  const missing: NotDumped[] = [];
  for (const database of all) {
    const { name } = database;
    const isNamed = databases.includes(name);
    if (databases.length > 0 ? !isNamed : name === "template0") continue;
    if (excludeDatabases.includes(name))
      missing.push({ name, reason: MissingReason.EXCLUDED, message: "left out on request" });
    else if (database.isProviders)
      missing.push({ name, reason: MissingReason.EXCLUDED, message: "it belongs to the provider of the service" });
    else if (!isNamed && isStaged(database))
      missing.push({
        name,
        reason: MissingReason.EXCLUDED,
        message: "a restore works in it, or has left it for a decision",
      });
    else if (database.isHalfDropped)
      missing.push({
        name,
        reason: MissingReason.DROPPED,
        message: "its DROP DATABASE was interrupted: it can only be dropped again",
      });
    else if (!database.allowsConnections)
      missing.push({ name, reason: MissingReason.CONNECTIONS_FORBIDDEN, message: "it forbids connections" });
    else if (!database.mayConnect)
      missing.push({
        name,
        reason: MissingReason.CONNECTIONS_FORBIDDEN,
        message: "the role of the backup has no right to connect to it",
      });
    else chosen.push(database);
  }
  return { chosen, missing };
}

/** Whether a backup that lacks it is complete all the same. */
export function isCompleteWithout({ reason }: Pick<NotDumped, "reason">): boolean {
  return reason === MissingReason.EXCLUDED || reason === MissingReason.DROPPED;
}

/** Refuses, with NOT_SUPPORTED, a cluster that pg_dumpall cannot dump: it ends with 1 at such a name (seen). */
export function requireDumpableWhole(chosen: readonly Pick<Listed, "name">[]): void {
  const name = chosen.map((database) => database.name).find((each) => /[\r\n]/.test(each));
  if (name !== undefined)
    fail("NOT_SUPPORTED", `pg_dumpall refuses the database ${JSON.stringify(name)}, whose name has a line break`, {
      hint: "leave it out by name, or take the backup without the cluster dump: databases on their own may have any name",
    });
}
