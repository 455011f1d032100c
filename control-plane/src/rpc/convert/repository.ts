import { create, fromJson } from "@bufbuild/protobuf";
import { RepositoryLocationSchema } from "@coppice/proto/gen/coppice/common/v1/location";
import {
  type Repository,
  RepositoryEncryptionSchema,
  RepositorySchema,
} from "@coppice/proto/gen/coppice/control/v1/repository";
import type { RepositoryRow } from "../../catalog/repository.ts";
import { formatEtag } from "../etag.ts";
import { times } from "./times.ts";

/** What the catalog knows about repositories besides their rows. */
export interface RepositoryFacts {
  /** By host id. */
  readonly hostNames: ReadonlyMap<string, string>;
  /** By repository id; an empty one is missing. */
  readonly contents: ReadonlyMap<string, { readonly backups: number; readonly storedBytes: bigint }>;
}

export function repositoryMessage(row: RepositoryRow, facts: RepositoryFacts): Repository {
  const contents = facts.contents.get(row.id);
  return create(RepositorySchema, {
    id: row.id,
    name: row.name,
    labels: row.labels,
    etag: formatEtag(row.version),
    location: fromJson(RepositoryLocationSchema, row.location),
    homeHost: row.homeHostId ?? "",
    homeHostName: facts.hostNames.get(row.homeHostId ?? "") ?? "",
    credentials: {
      write: row.writeSecretId ?? "",
      read: row.readSecretId ?? "",
      delete: row.deleteSecretId ?? "",
    },
    ...(row.encryption === null ? {} : { encryption: fromJson(RepositoryEncryptionSchema, row.encryption) }),
    ...(row.reachable === null ? {} : { reachable: row.reachable }),
    problem: row.problem,
    storedBytes: contents?.storedBytes ?? 0n,
    backups: contents?.backups ?? 0,
    ...times({ createTime: row.createTime, updateTime: row.updateTime, reachableTime: row.reachableTime }),
  });
}
