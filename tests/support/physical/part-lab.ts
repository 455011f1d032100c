import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  type RecoverPartCommand,
  RecoverPartCommandSchema,
  type RecoverPartResult,
} from "@coppice/proto/gen/coppice/agent/v1/recover_part";
import type { BackupAddress } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import { type RestoreDatabaseCommandSchema, RestoreMode } from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import type { RestoreSelectionSchema } from "@coppice/proto/gen/coppice/common/v1/restore_selection";
import type { Part } from "../../../agent/src/scratch/part.ts";
import { type PartToRecover, recoverPart } from "../../../agent/src/scratch/recover-part.ts";
import { scratchPlaces } from "../../../agent/src/scratch/scratch-folder.ts";
import { settlePart } from "../../../agent/src/scratch/settle-part.ts";
import { connectionTo } from "../dumps/dump-lab.ts";
import type { PostgresServer } from "../postgres-servers.ts";
import type { RestoreLab } from "./restore-lab.ts";

/** What a part is, in a test. */
export interface PartWish {
  readonly selection?: MessageInitShape<typeof RestoreSelectionSchema>;
  /** Where it is loaded. */
  readonly load?: Omit<MessageInitShape<typeof RestoreDatabaseCommandSchema>, "$typeName">;
  /** Or the file that comes of it. */
  readonly file?: string;
  readonly tablespaces?: readonly number[];
  /** Scratch folder; one in the lab's when left out. */
  readonly scratch?: string;
}

/** Brings back parts of a server's backups into the same server, as the agent does. */
export interface PartLab {
  /** Of the database `orders`, out of that chain. */
  command(chain: readonly BackupAddress[], wish: PartWish): RecoverPartCommand;
  with<T>(command: RecoverPartCommand, work: (part: Part) => Promise<T>, signal?: AbortSignal): Promise<T>;
  recover(
    command: RecoverPartCommand,
    changes?: Partial<PartToRecover>,
    signal?: AbortSignal,
  ): Promise<RecoverPartResult>;
  /** Settles the work as after its agent was lost, with nothing noted. */
  settle(command: RecoverPartCommand): ReturnType<typeof settlePart>;
  readonly leavings: string[];
}

/** Opens one beside a lab for restores, whose folder the scratch folders lie in. */
export async function openPartLab(server: PostgresServer, lab: RestoreLab): Promise<PartLab> {
  const workFolder = join(lab.folder, "work");
  const home = join(lab.folder, "home");
  for (const made of [workFolder, home]) await mkdir(made);
  const usual = join(lab.folder, "scratch");
  const leavings: string[] = [];
  const own = { targetPassword: server.password, livePassword: server.password, files: { home }, workFolder };

  const withPart: PartLab["with"] = async (command, work, signal) => {
    if (!command.restore) throw new Error("the command restores nothing");
    const places = scratchPlaces(command);
    const changes = { operationId: "op_part", ...(signal ? { signal } : {}) };
    return await lab.with(
      command.restore,
      (restore) =>
        work({ command, places, restore: { ...restore, scratch: { socketFolder: places.socketFolder } }, ...own }),
      changes,
    );
  };
  return {
    leavings,
    command(chain, { selection, load, file, tablespaces = [], scratch = usual }) {
      return create(RecoverPartCommandSchema, {
        restore: {
          chain: [...chain],
          target: {},
          dataDirectory: join(scratch, "data"),
          tablespaces: tablespaces.map((oid) => ({ oid, location: join(scratch, "tablespaces", String(oid)) })),
          start: true,
        },
        scratch,
        database: "orders",
        ...(selection ? { selection } : {}),
        ...(file === undefined
          ? {
              load: {
                file: { path: join(scratch, "part.dump") },
                connection: connectionTo(server),
                targetDatabase: "past",
                mode: RestoreMode.NEW,
                stagedDatabase: "coppice_restore_part",
                ...(selection ? { selection } : {}),
                ...load,
              },
            }
          : { file: { path: file } }),
        live: connectionTo(server),
        liveDatabase: "orders",
      });
    },
    with: withPart,
    recover: (command, changes = {}, signal) =>
      withPart(
        command,
        (part) =>
          recoverPart({
            ...part,
            onProgress: () => {},
            log: () => {},
            onLeaving: (leaving) => leavings.push(leaving),
            onStaged: () => Promise.resolve(),
            onInto: () => Promise.resolve(),
            onDone: () => Promise.resolve(),
            ...changes,
          }),
        signal,
      ),
    settle: (command) =>
      settlePart({
        ...own,
        signal: AbortSignal.timeout(60_000),
        command,
        operationId: "op_part",
        noted: undefined,
        stagedOid: undefined,
        into: undefined,
      }),
  };
}
