import { checkRepository } from "../repository/check.ts";
import type { Handler } from "./handler.ts";
import { required } from "./required.ts";

/** Looks at a repository by a probe object. */
export const checkRepositoryCommand: Handler<"checkRepository"> = async ({ repository }, context) => ({
  result: await checkRepository(required(repository, "repository"), context),
});
