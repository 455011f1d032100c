import { RepositorySchema } from "@coppice/proto/gen/coppice/control/v1/repository";
import { fail } from "@coppice/proto/kit/failure";
import { type HostKeyOptions, hostKeyOptions, readHostKeys } from "../../input/host-keys.ts";
import { refuseForeignOptions } from "../../input/place-options.ts";
import {
  type CredentialOptions,
  credentialOptions,
  readCredentials,
  refuseOtherKind,
} from "../../input/storage-credentials.ts";
import { protoJson } from "../../output/proto-json.ts";
import type { Session } from "../../session.ts";

/** Flags of `coppice repository update`. */
export interface UpdateOptions extends CredentialOptions, HostKeyOptions {}

/** Those flags. */
export const updateOptions = () => [...credentialOptions(), ...hostKeyOptions()];

/** `coppice repository update`: other credentials, or other host keys; those before are forgotten. */
export async function updateRepository(session: Session, options: UpdateOptions, name: string): Promise<void> {
  const { credentials: source, hostKey, knownHosts } = options;
  if (source === undefined && hostKey === undefined && knownHosts === undefined) {
    fail("INVALID_FIELD", "there is nothing to change", { hint: "give --credentials, --host-key or --known-hosts" });
  }
  const api = await session.api();
  const before = await api.repositories.getRepository({ repository: name });
  const kind = before.location?.kind;
  refuseForeignOptions(options, kind?.case);
  const credentials = await readCredentials(session, options);
  refuseOtherKind(credentials, before.location);
  const hostKeys = kind?.case === "ssh" ? await readHostKeys(options, kind.value) : [];
  const repository = await api.repositories.updateRepository({
    repository: before.id,
    etag: before.etag,
    hostKeys,
    ...(credentials && { credentials }),
    requestId: session.newRequestId(),
  });
  const purposes = (["write", "read", "delete"] as const).filter((purpose) => credentials?.[purpose]);
  const changed = [
    ...(purposes.length > 0 ? [`credentials to ${purposes.join(", ")}`] : []),
    ...(hostKeys.length > 0 ? ["host keys"] : []),
  ];
  await session.answer({
    json: () => protoJson(RepositorySchema, repository),
    table: () =>
      session.success(`repository ${repository.name} has other ${changed.join(" and ")}; those before are forgotten`, {
        next: `coppice repository check ${repository.name}`,
      }),
    names: () => [repository.name],
  });
}
