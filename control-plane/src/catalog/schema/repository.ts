import type { JsonValue } from "@bufbuild/protobuf";
import { sql } from "drizzle-orm";
import { boolean, check, index, jsonb, pgTable, text } from "drizzle-orm/pg-core";
import { time } from "./column-types.ts";
import { host } from "./host.ts";
import { isName, resourceColumns } from "./resource.ts";
import { secret } from "./secret.ts";

/** Places where backups are stored. */
export const repository = pgTable(
  "repository",
  {
    ...resourceColumns("repository"),
    /** coppice.common.v1.RepositoryLocation as proto JSON. */
    location: jsonb().$type<JsonValue>().notNull(),
    /** The place in one line, so that none is registered twice. */
    locationKey: text().notNull().unique("repository_location_key"),
    /** Only the agent of this host reaches a folder. */
    homeHostId: text().references(() => host.id, { onDelete: "restrict" }),
    writeSecretId: text().references(() => secret.id, { onDelete: "restrict" }),
    readSecretId: text().references(() => secret.id, { onDelete: "restrict" }),
    deleteSecretId: text().references(() => secret.id, { onDelete: "restrict" }),
    /** coppice.control.v1.RepositoryEncryption as proto JSON; null where nothing is encrypted. */
    encryption: jsonb().$type<JsonValue>(),
    /** Sealed age identities, a line each. */
    identitySecretId: text().references(() => secret.id, { onDelete: "restrict" }),
    /** Whether the last attempt reached it; null before the first. */
    reachable: boolean(),
    reachableTime: time(),
    unreachableSince: time(),
    problem: text().notNull().default(""),
  },
  (t) => [
    check("repository_name_form", isName(t.name)),
    check("repository_unreachable_since", sql`(${t.reachable} is false) = (${t.unreachableSince} is not null)`),
    check("repository_identity_of_encrypted", sql`${t.identitySecretId} is null or ${t.encryption} is not null`),
    index("repository_home_host").on(t.homeHostId),
  ],
);
