import { createHash } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import {
  type RestoreDatabaseCommand,
  RestoreDatabaseCommandSchema,
  RestoreMode,
} from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import type { Endpoint } from "@coppice/proto/gen/coppice/common/v1/connection";
import { formatKeptDatabase, formatStagedDatabase } from "@coppice/proto/kit/repository/restore-names";
import { findDatabase, isStagedOid } from "../../logical/staged-database.ts";
import type { ClientFiles, ResolvedEndpoint } from "../../postgres/endpoint.ts";
import type { PostgresConnection } from "../../postgres/connect.ts";
import type { Storage } from "../../storage/storage.ts";
import type { FoundBackup } from "../catalog.ts";
import { initialName, isUntouched } from "./initial-database.ts";
import type { Progress } from "../progress.ts";
import { initialDatabases, type Wish } from "./wish.ts";

/** Everything that a restore is done with. */
export interface Restoring {
  readonly storage: Storage;
  readonly backup: FoundBackup;
  readonly wish: Wish;
  readonly endpoint: Endpoint;
  readonly resolved: ResolvedEndpoint;
  readonly password: string | undefined;
  readonly identities: string | undefined;
  readonly files: ClientFiles;
  readonly jobs: number;
  readonly workFolder: string;
  readonly progress: Progress;
  readonly signal: AbortSignal;
}

/** One database's part of a restore. */
export interface Step {
  readonly command: RestoreDatabaseCommand;
  /** Put into place by an earlier run of the same restore, as its oid says. */
  readonly isInPlace: boolean;
  /** Takes the place of what initdb made, which nobody has used and which is dropped then. */
  readonly isInitial: boolean;
}

/**
 * The same for every run of the same restore: so what a killed one left is cleared away by the next one, and what it had
 * put into place is known again.
 */
function stagedName({ backup }: Restoring, name: string, target: string): string {
  const key = JSON.stringify([backup.address.backupId, name, target]);
  return formatStagedDatabase(`offline${createHash("sha256").update(key).digest("hex").slice(0, 24)}`);
}

/** What has to be done for each database, by looking at what is there; nothing is changed. Fails like a connection. */
export async function planSteps(restoring: Restoring, connection: PostgresConnection, now: Date): Promise<Step[]> {
  const { wish, backup, endpoint, resolved, jobs, signal } = restoring;
  const steps: Step[] = [];
  for (const { name, target } of wish.databases) {
    const stagedDatabase = stagedName(restoring, name, target);
    const oid = await findDatabase(connection, target);
    const mayGo = wish.all && !wish.replace && oid !== undefined;
    const isInPlace = mayGo && isStagedOid(oid, stagedDatabase);
    const isInitial =
      mayGo && initialDatabases.includes(name) && (isInPlace || (await isUntouched(resolved, target, signal)));
    const isReplaced = wish.replace && oid !== undefined;
    const command = create(RestoreDatabaseCommandSchema, {
      backup: backup.address,
      database: name,
      connection: { endpoint },
      targetDatabase: target,
      mode: isInitial || isReplaced ? RestoreMode.REPLACE : RestoreMode.NEW,
      jobs,
      stagedDatabase,
      keptDatabase: isInitial ? initialName(target) : isReplaced ? formatKeptDatabase(target, now) : "",
    });
    steps.push({ command, isInPlace, isInitial });
  }
  return steps;
}
