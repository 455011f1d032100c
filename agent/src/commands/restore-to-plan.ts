import type { RestoreDatabaseCommand } from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import type { RestoreToPlan } from "../logical/plan.ts";
import type { Storage } from "../storage/storage.ts";
import type { CommandContext } from "./handler.ts";
import { required } from "./required.ts";

/** What a restore is planned, done and settled with, its password opened. */
export function restoreToPlan(
  command: RestoreDatabaseCommand,
  storage: Storage,
  { secret, clientFiles: files, workFolder, signal }: CommandContext,
): RestoreToPlan {
  const password = secret(required(command.connection, "connection").passwordSecret);
  return { command, password, files, storage, workFolder, signal };
}
