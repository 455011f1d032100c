import type { KeyObject } from "node:crypto";
import { create, toJson } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { RepositoryLocationSchema } from "@coppice/proto/gen/coppice/common/v1/location";
import {
  type StorageCredential,
  StorageCredentialSchema,
} from "@coppice/proto/gen/coppice/common/v1/storage_credential";
import {
  type CreateRepositoryRequest,
  type NewRepositoryEncryption,
  type RepositoryCredentialValues,
  type RepositoryEncryption,
  RepositoryEncryptionSchema,
} from "@coppice/proto/gen/coppice/control/v1/repository";
import { fail } from "@coppice/proto/kit/failure";
import { newId } from "@coppice/proto/kit/id";
import type { Database } from "../catalog/catalog.ts";
import { insertRepository, type RepositorySecretIds } from "../catalog/repository.ts";
import { insertSecret } from "../catalog/secret.ts";
import { checkAnswer } from "../secrets/recovery-challenge.ts";
import { type Identities, makeIdentity, readIdentities } from "../secrets/identities.ts";
import { openEncrypter } from "../secrets/recipients.ts";
import { seal } from "../secrets/seal.ts";
import { parsePlace } from "./place.ts";
import { requireHost } from "./require.ts";

/** What a repository is registered with. */
export interface RepositoryToRegister {
  readonly id: string;
  readonly request: CreateRepositoryRequest;
  readonly masterKey: KeyObject;
  readonly now: Date;
}

/**
 * Registers a repository, its credentials and its identity sealed; nothing is sent anywhere. Errors: HOST_NOT_FOUND,
 * NAME_TAKEN, REPOSITORY_EXISTS, INVALID_FIELD, RECOVERY_NOT_PROVED.
 */
export async function registerRepository(tx: Database, repository: RepositoryToRegister): Promise<void> {
  const { id, request, masterKey, now } = repository;
  const home = request.homeHost === "" ? undefined : await requireHost(tx, request.homeHost);
  const { location, key } = parsePlace(request.location, home?.id);
  const secrets = await sealCredentials(tx, masterKey, {
    name: request.name,
    kind: location.kind.case,
    credentials: request.credentials,
  });
  const encryption = request.encryption && (await encrypt(tx, masterKey, request.name, request.encryption, now));
  await insertRepository(tx, {
    id,
    name: request.name,
    labels: request.labels,
    location: toJson(RepositoryLocationSchema, location),
    locationKey: key,
    homeHostId: home?.id ?? null,
    writeSecretId: secrets.writeSecretId ?? null,
    readSecretId: secrets.readSecretId ?? null,
    deleteSecretId: secrets.deleteSecretId ?? null,
    encryption: encryption ? toJson(RepositoryEncryptionSchema, encryption.encryption) : null,
    identitySecretId: encryption?.identitySecretId ?? null,
  });
}

/** Stores credentials sealed, those that are given. Errors: INVALID_FIELD for those of another kind of storage. */
export async function sealCredentials(
  tx: Database,
  masterKey: KeyObject,
  repository: {
    readonly name: string;
    readonly kind: string | undefined;
    readonly credentials: RepositoryCredentialValues | undefined;
  },
): Promise<Partial<RepositorySecretIds>> {
  const { credentials } = repository;
  const sealOne = async (purpose: "write" | "read" | "delete", credential: StorageCredential | undefined) => {
    if (credential === undefined) return undefined;
    if (credential.kind.case !== repository.kind) {
      fail("INVALID_FIELD", `credentials.${purpose}: they are of another kind than the place`, {
        fields: [{ field: `credentials.${purpose}`, expected: `those of ${repository.kind ?? "the place"}` }],
      });
    }
    const id = newId("sec");
    const text = JSON.stringify(toJson(StorageCredentialSchema, credential));
    await insertSecret(tx, {
      id,
      purpose: `${purpose} repository ${repository.name}`,
      sealed: seal(masterKey, id, text),
    });
    return id;
  };
  const ids = {
    writeSecretId: await sealOne("write", credentials?.write),
    readSecretId: await sealOne("read", credentials?.read),
    deleteSecretId: await sealOne("delete", credentials?.delete),
  };
  return Object.fromEntries(Object.entries(ids).filter(([, id]) => id !== undefined));
}

async function encrypt(
  tx: Database,
  masterKey: KeyObject,
  name: string,
  wanted: NewRepositoryEncryption,
  now: Date,
): Promise<{ encryption: RepositoryEncryption; identitySecretId: string | null }> {
  const { recoveryRecipient, challengeToken: token, answer } = wanted;
  checkAnswer(masterKey, { token, answer, recipient: recoveryRecipient, now });
  // One with a typing error would be found by the first backup only.
  await openEncrypter(wanted.recipients, "encryption.recipients");
  const own = await ownIdentity(wanted);
  const recipients = [...new Set([...(own?.recipients ?? []), recoveryRecipient, ...wanted.recipients])];
  let identitySecretId: string | null = null;
  if (own) {
    identitySecretId = newId("sec");
    const sealed = seal(masterKey, identitySecretId, own.file);
    await insertSecret(tx, { id: identitySecretId, purpose: `identity of repository ${name}`, sealed });
  }
  const encryption = create(RepositoryEncryptionSchema, {
    recipients,
    recoveryRecipient,
    recoveryProveTime: timestampFromDate(now),
    hasIdentity: own !== undefined,
    adoptedRecipients: wanted.identity === "" ? [] : [...(own?.recipients ?? [])],
  });
  return { encryption, identitySecretId };
}

async function ownIdentity({ identity, withoutIdentity }: NewRepositoryEncryption): Promise<Identities | undefined> {
  if (identity === "") return withoutIdentity ? undefined : await makeIdentity();
  if (!withoutIdentity) return await readIdentities(identity, "encryption.identity");
  return fail("INVALID_FIELD", "an identity is given, and none is to be kept", {
    fields: [{ field: "encryption.without_identity", expected: "false, or no identity" }],
  });
}
