import { scanRepository } from "../repository/survey/scan.ts";
import type { Handler } from "./handler.ts";
import { withStorage } from "./with-storage.ts";

/** Reads what a repository says of itself. */
export const scanRepositoryCommand: Handler<"scanRepository"> = async ({ repository, knownFolders }, context) =>
  await withStorage(repository, context, async (storage) => ({
    result: await scanRepository(storage, { knownFolders, signal: context.signal, onProgress: context.progress }),
  }));
