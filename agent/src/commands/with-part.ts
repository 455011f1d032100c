import type { RecoverPartCommand } from "@coppice/proto/gen/coppice/agent/v1/recover_part";
import type { PhysicalRestore } from "../physical/restore/inspect.ts";
import type { Part } from "../scratch/part.ts";
import { scratchPlaces } from "../scratch/scratch-folder.ts";
import type { CommandContext } from "./handler.ts";
import { required } from "./required.ts";
import { withPhysicalRestore } from "./with-physical-restore.ts";

/** Does the work with what a part is planned and brought back with: passwords opened, and the repositories. */
export async function withPart<T>(
  command: RecoverPartCommand,
  context: CommandContext,
  work: (part: Part) => Promise<T>,
): Promise<T> {
  const { secret, clientFiles: files, workFolder } = context;
  const places = scratchPlaces(command);
  const targetPassword = secret(command.load?.connection?.passwordSecret ?? "");
  const livePassword = secret(command.live?.passwordSecret ?? "");
  const withRestore = (restore: PhysicalRestore) =>
    work({
      command,
      places,
      restore: { ...restore, scratch: { socketFolder: places.socketFolder } },
      targetPassword,
      livePassword,
      files,
      workFolder,
    });
  return await withPhysicalRestore(required(command.restore, "restore"), context, withRestore, { isScratch: true });
}
