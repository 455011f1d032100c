import type { MessageInitShape } from "@bufbuild/protobuf";
import type { RepositoryLocationSchema } from "@coppice/proto/gen/coppice/common/v1/location";
import { fail } from "@coppice/proto/kit/failure";

/** Where a repository lives: the folder's home host, and the location as the contract spells it. */
export interface ParsedLocation {
  readonly homeHost: string;
  readonly location: MessageInitShape<typeof RepositoryLocationSchema>;
}

/** Reads `HOST:/path`. Fails with INVALID_FIELD; a bare path would be a folder of nobody knows which host. */
export function parseLocation(text: string): ParsedLocation {
  const [, host, path] = /^([a-z0-9_-]+):(\/.*)$/s.exec(text) ?? [];
  if (host !== undefined && path !== undefined && !path.startsWith("//")) {
    return { homeHost: host, location: { kind: { case: "filesystem", value: { path } } } };
  }
  if (text.startsWith("/")) {
    fail("INVALID_FIELD", `${text} does not say on which host the folder is`, {
      hint: `write HOST:/path, for example db7:${text}`,
    });
  }
  const scheme = /^([a-z0-9]+):\/\//.exec(text)?.[1];
  if (scheme !== undefined) {
    fail("INVALID_FIELD", `repositories of kind ${scheme} are not known to this version`, {
      hint: "write HOST:/path, for example db7:/srv/backups",
    });
  }
  return fail("INVALID_FIELD", `${text} is not the place of a repository`, {
    hint: "write HOST:/path with an absolute path, for example db7:/srv/backups",
  });
}

/** `HOST:/path` of a repository. */
export function formatLocation(
  homeHost: string,
  location: { readonly kind: { case: string | undefined; value?: { path: string } | undefined } } | undefined,
): string {
  return location?.kind.case === "filesystem" ? `${homeHost}:${location.kind.value?.path ?? ""}` : "unknown kind";
}
