import { create } from "@bufbuild/protobuf";
import { durationMs, timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { CleanRepositoryRequest } from "@coppice/proto/gen/coppice/control/v1/repository";
import { CleanRepositorySpecSchema } from "@coppice/proto/gen/coppice/control/v1/repository_operation";
import { newId } from "@coppice/proto/kit/id";
import type { Database } from "../catalog/catalog.ts";
import { requireRepository } from "../inventory/require.ts";
import { chooseWorker } from "./choose-worker.ts";
import type { Prepared } from "./prepared.ts";

const defaultAgeMs = 24 * 3_600_000;

/** Resolves a request to clean a repository. Errors: REPOSITORY_NOT_FOUND, HOST_NOT_FOUND, REPOSITORY_WRONG_HOST. */
export async function prepareCleaning(db: Database, request: CleanRepositoryRequest, now: Date): Promise<Prepared> {
  const repository = await requireRepository(db, request.repository);
  const host = await chooseWorker(db, { repository, host: request.host });
  const ageMs = request.olderThan ? durationMs(request.olderThan) : defaultAgeMs;
  return {
    operationId: newId("op"),
    spec: {
      case: "cleanRepository",
      value: create(CleanRepositorySpecSchema, {
        repository: repository.id,
        repositoryName: repository.name,
        before: timestampFromDate(new Date(now.getTime() - ageMs)),
        dryRun: request.dryRun,
      }),
    },
    hostId: host.id,
    clusterId: undefined,
    repositoryId: repository.id,
    subject: repository,
    backups: [],
  };
}
