import type { KeyObject } from "node:crypto";
import { fromJson, toJson } from "@bufbuild/protobuf";
import { RepositoryLocationSchema } from "@coppice/proto/gen/coppice/common/v1/location";
import type { UpdateRepositoryRequest } from "@coppice/proto/gen/coppice/control/v1/repository";
import { fail } from "@coppice/proto/kit/failure";
import type { Database } from "../catalog/catalog.ts";
import { type RepositoryRow, updateRepository } from "../catalog/repository.ts";
import { changeDesiredOf } from "../catalog/physical/desired.ts";
import { deleteSecret } from "../catalog/secret.ts";
import { sealCredentials } from "./register-repository.ts";

/** Gives a repository other credentials or pinned host keys. Errors: INVALID_FIELD. */
export async function changeRepository(
  tx: Database,
  masterKey: KeyObject,
  row: RepositoryRow,
  request: UpdateRepositoryRequest,
): Promise<void> {
  const location = fromJson(RepositoryLocationSchema, row.location);
  const { kind } = location;
  const secrets = await sealCredentials(tx, masterKey, {
    name: row.name,
    kind: kind.case,
    credentials: request.credentials,
  });
  if (Object.keys(secrets).length === 0 && request.hostKeys.length === 0) {
    fail("INVALID_FIELD", "nothing is given that would change", {
      fields: [{ field: "credentials", expected: "credentials, or host_keys" }],
    });
  }
  if (request.hostKeys.length > 0) {
    if (kind.case !== "ssh") {
      return fail("INVALID_FIELD", `host_keys: repository ${row.name} is not on an SSH server`, {
        fields: [{ field: "host_keys", expected: "nothing" }],
      });
    }
    kind.value.hostKeys = request.hostKeys;
  }
  await updateRepository(tx, row.id, { ...secrets, location: toJson(RepositoryLocationSchema, location) });
  await changeDesiredOf(tx, { repositoryId: row.id });
  const replaced = [
    secrets.writeSecretId && row.writeSecretId,
    secrets.readSecretId && row.readSecretId,
    secrets.deleteSecretId && row.deleteSecretId,
  ];
  for (const id of replaced) if (id) await deleteSecret(tx, id);
}
