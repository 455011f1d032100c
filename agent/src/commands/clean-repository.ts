import { timestampDate } from "@bufbuild/protobuf/wkt";
import { cleanRepository } from "../repository/survey/clean.ts";
import type { Handler } from "./handler.ts";
import { required } from "./required.ts";
import { withStorage } from "./with-storage.ts";

/** Finds what was never finished in a repository, and removes it. */
export const cleanRepositoryCommand: Handler<"cleanRepository"> = async (command, context) =>
  await withStorage(command.repository, context, async (storage) => ({
    result: await cleanRepository(storage, {
      before: timestampDate(required(command.before, "before")),
      keptFolders: command.activeFolders,
      isDryRun: command.dryRun,
      signal: context.signal,
    }),
  }));
