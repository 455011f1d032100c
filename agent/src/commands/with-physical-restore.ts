import type { RestorePhysicalCommand } from "@coppice/proto/gen/coppice/agent/v1/restore_physical";
import { fail } from "@coppice/proto/kit/failure";
import type { BackupToRestore } from "../physical/restore/chain.ts";
import type { PhysicalRestore } from "../physical/restore/inspect.ts";
import type { Storage } from "../storage/storage.ts";
import type { CommandContext } from "./handler.ts";
import { replayFor } from "./replay-for.ts";
import { required } from "./required.ts";
import { withStorage } from "./with-storage.ts";

/**
 * Does the work with what a physical restore is planned and done with: every repository of its chain opened once, and
 * archived WAL handed out meanwhile. `isScratch` says that the server is for this agent alone.
 */
export async function withPhysicalRestore<T>(
  command: RestorePhysicalCommand,
  context: CommandContext,
  work: (restore: PhysicalRestore) => Promise<T>,
  { isScratch = false }: { readonly isScratch?: boolean } = {},
): Promise<T> {
  const { operationId, signal, secret } = context;
  const isOfBackup = !command.start && command.target?.point.case === "immediate" && command.target.point.value;
  if (command.walRepository && !command.start && !isOfBackup)
    fail("NOT_SUPPORTED", "archived WAL is handed out only while Coppice itself starts the server and waits for it", {
      hint: "add --start, or restore a backup that is no WAL increment to where it is consistent: --immediate",
    });
  const opened = new Map<string, Storage>();
  const openNext = async (index: number): Promise<T> => {
    const repository = command.chain[index]?.repository;
    if (index < command.chain.length) {
      if (opened.has(repository?.repositoryId ?? "")) return await openNext(index + 1);
      return await withStorage(repository, context, async (storage) => {
        opened.set(repository?.repositoryId ?? "", storage);
        return await openNext(index + 1);
      });
    }
    const backups = command.chain.map((address): BackupToRestore => {
      const { repositoryId, identitySecret } = required(address.repository, "repository");
      const storage = required(opened.get(repositoryId), "repository");
      return { storage, address, identities: secret(identitySecret) };
    });
    const restore = { command, backups, operationId, signal, needed: [context.walFolder, context.chainFolder] };
    const newest = required(backups.at(-1), "chain");
    // Nobody will be there to hand out WAL, and the backup's own is put into its place.
    if (!command.walRepository || isOfBackup) return await work({ ...restore, restoreCommand: undefined });
    return await withStorage(command.walRepository, context, async (storage) => {
      const from = { storage, backups: newest.storage, isScratch };
      const { replay, expectedEndLsn } = await replayFor(command, context, from);
      await using _ = replay;
      const checked = { ...command, expectedEndLsn };
      const { restoreCommand, refused } = replay;
      return await work({ ...restore, command: checked, restoreCommand, refusedWal: refused });
    });
  };
  return await openNext(0);
}
