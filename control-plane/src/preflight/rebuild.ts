import { create, fromJson } from "@bufbuild/protobuf";
import {
  RepositoryEncryptionSchema,
  type RebuildRepositoryRequest,
} from "@coppice/proto/gen/coppice/control/v1/repository";
import { RebuildRepositorySpecSchema } from "@coppice/proto/gen/coppice/control/v1/repository_operation";
import { newId } from "@coppice/proto/kit/id";
import type { Database } from "../catalog/catalog.ts";
import type { RepositoryRow } from "../catalog/repository.ts";
import { requireRepository } from "../inventory/require.ts";
import { chooseWorker } from "./choose-worker.ts";
import type { Prepared } from "./prepared.ts";

/** Resolves a request to rebuild from a repository. Errors: REPOSITORY_NOT_FOUND, HOST_NOT_FOUND, REPOSITORY_WRONG_HOST. */
export async function prepareRebuild(db: Database, request: RebuildRepositoryRequest): Promise<Prepared> {
  const repository = await requireRepository(db, request.repository);
  const host = await chooseWorker(db, { repository, host: request.host });
  return {
    operationId: newId("op"),
    spec: {
      case: "rebuildRepository",
      value: create(RebuildRepositorySpecSchema, {
        repository: repository.id,
        repositoryName: repository.name,
        adoptedRecipients: adoptedRecipients(repository),
      }),
    },
    hostId: host.id,
    clusterId: undefined,
    repositoryId: repository.id,
    subject: repository,
    exclusiveKey: `rebuild ${repository.id}`,
    backups: [],
  };
}

function adoptedRecipients({ encryption }: RepositoryRow): string[] {
  return encryption === null ? [] : fromJson(RepositoryEncryptionSchema, encryption).adoptedRecipients;
}
