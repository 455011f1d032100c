import { fail } from "@coppice/proto/kit/failure";
import type { PageRequest } from "@coppice/proto/gen/coppice/control/v1/page";

const defaultSize = 100;

/** Which page a request asks for: how many items, and the keys of the last one before it. */
export interface Page {
  readonly size: number;
  /** One key for each column of the order; undefined for the first page. */
  readonly after: readonly string[] | undefined;
}

/** Reads a page request whose tokens carry `keys` keys. Errors: INVALID_FIELD for a token that we did not make. */
export function parsePage(request: PageRequest | undefined, keys: number): Page {
  const size = request?.pageSize || defaultSize;
  const token = request?.pageToken ?? "";
  return { size, after: token === "" ? undefined : parseToken(token, keys) };
}

/**
 * Cuts what was read, one item more than the page holds, to the page. `keyOf` gives the keys of an item; the token is
 * empty on the last page.
 */
export function cutPage<Item>(
  items: readonly Item[],
  { size }: Page,
  keyOf: (item: Item) => readonly string[],
): { items: readonly Item[]; nextPageToken: string } {
  const last = items.length > size ? items[size - 1] : undefined;
  if (last === undefined) return { items, nextPageToken: "" };
  return { items: items.slice(0, size), nextPageToken: Buffer.from(JSON.stringify(keyOf(last))).toString("base64url") };
}

function parseToken(token: string, keys: number): readonly string[] {
  try {
    const parsed: unknown = JSON.parse(Buffer.from(token, "base64url").toString());
    const isKey = (key: unknown) => typeof key === "string" && /^[a-z0-9_-]{1,64}$/.test(key);
    if (Array.isArray(parsed) && parsed.length === keys && parsed.every(isKey)) {
      return parsed.map(String);
    }
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  return fail("INVALID_FIELD", "page.page_token is not a token of this list", {
    fields: [{ field: "page.page_token", expected: "the next_page_token of the answer before, or nothing" }],
  });
}
