import { Option } from "commander";
import { RepositorySchema } from "@coppice/proto/gen/coppice/control/v1/repository";
import { fail } from "@coppice/proto/kit/failure";
import { formatLocation, parseLocation } from "../../input/location.ts";
import { labelOption } from "../../input/options.ts";
import { applyPlaceOptions, type PlaceOptions, placeOptions } from "../../input/place-options.ts";
import { type EncryptionOptions, encryptionOptions, proveRecovery } from "../../input/recovery-proof.ts";
import { readCredentials, refuseOtherKind } from "../../input/storage-credentials.ts";
import { seeThrough } from "../../operation/conclude.ts";
import { protoJson } from "../../output/proto-json.ts";
import type { Session } from "../../session.ts";

/** Flags of `coppice repository add`. */
export interface AddOptions extends PlaceOptions, EncryptionOptions {
  readonly check?: boolean;
  readonly host?: string;
  readonly label?: Record<string, string>;
}

/** Those flags. */
export const addOptions = () => [
  ...placeOptions(),
  ...encryptionOptions(),
  new Option("--check", "try it at once: write, read back, delete"),
  new Option("--host <host>", "with --check: the host to try it from (its home host, or one that is connected)"),
  labelOption(),
];

/** `coppice repository add`: registers a place, and tries it when asked to. */
export async function addRepository(
  session: Session,
  options: AddOptions,
  name: string,
  locationText: string,
): Promise<number> {
  if (options.host !== undefined && !options.check) {
    fail("INVALID_FIELD", "--host says where a check is made, and none is asked for", { hint: "add --check" });
  }
  const parsed = parseLocation(locationText);
  // All that can be wrong here is found before anything is sent, or anybody is asked to decrypt something.
  const location = await applyPlaceOptions(parsed.location, options);
  const credentials = await readCredentials(session, options);
  refuseOtherKind(credentials, location);
  const api = await session.api();
  const encryption = await proveRecovery(session, options, (recoveryRecipient) =>
    api.repositories.createRecoveryChallenge({ recoveryRecipient }),
  );
  const repository = await api.repositories.createRepository({
    name,
    homeHost: parsed.homeHost,
    location,
    labels: options.label ?? {},
    ...(credentials && { credentials }),
    ...(encryption && { encryption }),
    requestId: session.newRequestId(),
  });
  const place = formatLocation(repository.homeHostName, repository.location);
  const added = `repository ${repository.name} is added: ${place}${repository.encryption ? ", encrypted" : ""}`;
  if (options.check) {
    // The answer is the check's; that the repository is registered already is worth knowing if that fails.
    session.terminal.err(`${added}; trying it\n`);
    const operation = await api.repositories.checkRepository({
      repository: repository.id,
      host: options.host ?? "",
      requestId: session.newRequestId(),
    });
    return await seeThrough(session, api, operation, {});
  }
  await session.answer({
    json: () => protoJson(RepositorySchema, repository),
    table: () => session.success(`${added}; not tried yet`, { next: `coppice repository check ${repository.name}` }),
    names: () => [repository.name],
  });
  return 0;
}
