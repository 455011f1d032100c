import { checkRepository } from "../repository/check.ts";
import type { Handler } from "./handler.ts";
import { required } from "./required.ts";
import { storageAccess } from "../repository/storage-access.ts";

/** Looks at a repository by a probe object. */
export const checkRepositoryCommand: Handler<"checkRepository"> = async (command, context) => {
  const { isHome, knownClusters } = command;
  const target = required(command.repository, "repository");
  return { result: await checkRepository({ target, isHome, knownClusters }, storageAccess(target, context)) };
};
