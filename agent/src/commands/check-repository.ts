import { checkRepository } from "../repository/check.ts";
import type { Handler } from "./handler.ts";
import { required } from "./required.ts";
import { storageAccess } from "../repository/storage-access.ts";

/** Looks at a repository by a probe object. */
export const checkRepositoryCommand: Handler<"checkRepository"> = async ({ repository, isHome }, context) => {
  const target = required(repository, "repository");
  return { result: await checkRepository({ target, isHome }, storageAccess(target, context)) };
};
