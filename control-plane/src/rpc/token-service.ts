import { create } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import { Role, type Token, TokenSchema, type TokenService } from "@coppice/proto/gen/coppice/control/v1/token";
import { fail } from "@coppice/proto/kit/failure";
import { issueToken } from "../access/issue-token.ts";
import { writeAudit } from "../audit/audit.ts";
import type { Catalog } from "../catalog/catalog.ts";
import type { RoleName } from "../catalog/schema/token.ts";
import { findToken, isOtherAdminToken, listTokens, revokeToken, type TokenRow } from "../catalog/token.ts";
import { auditedCall } from "./audited-call.ts";
import { times } from "./convert/times.ts";
import { callerOf } from "./gate.ts";
import { cutPage, parsePage } from "./page.ts";

const roleNames: { readonly [R in Exclude<Role, Role.UNSPECIFIED>]: RoleName } = {
  [Role.VIEWER]: "VIEWER",
  [Role.OPERATOR]: "OPERATOR",
  [Role.ADMIN]: "ADMIN",
};

export function tokenService({ catalog }: { catalog: Catalog }): ServiceImpl<typeof TokenService> {
  return {
    async createToken(request, context) {
      const { role, name, lifetime } = request;
      if (role === Role.UNSPECIFIED) fail("INVALID_FIELD", "role: a role is expected");
      const expireTime = lifetime === undefined ? null : new Date(Date.now() + durationMs(lifetime));
      const { row, value } = await catalog.transaction(async (tx) => {
        const issued = await issueToken(tx, { name, role: roleNames[role], expireTime });
        await writeAudit(tx, auditedCall(context, request), { id: issued.row.id, name });
        return issued;
      });
      return { token: tokenMessage(row), value };
    },
    async getCurrentToken(_request, context) {
      return tokenMessage(await getToken(catalog, callerOf(context).principalId));
    },
    async listTokens(request) {
      const page = parsePage(request.page, 2);
      const [name, id] = page.after ?? [];
      const after = name === undefined || id === undefined ? undefined : ([name, id] as const);
      const rows = await listTokens(catalog.db, { after, limit: page.size + 1 });
      const { items, nextPageToken } = cutPage(rows, page, (row) => [row.name, row.id]);
      return { tokens: items.map(tokenMessage), nextPageToken };
    },
    async revokeToken(request, context) {
      await catalog.transaction(async (tx) => {
        const row = await findToken(tx, request.token);
        if (row === undefined) fail("TOKEN_NOT_FOUND", `there is no token ${request.token}`);
        if (row.role === "ADMIN" && row.revokeTime === null && !(await isOtherAdminToken(tx, row.id))) {
          fail("LAST_ADMIN_TOKEN", `${row.name} is the last admin token that never expires`);
        }
        // Revoking again is no mutation.
        if (!(await revokeToken(tx, row.id, new Date()))) return;
        await writeAudit(tx, auditedCall(context, request), { id: row.id, name: row.name });
      });
      return {};
    },
  };
}

async function getToken(catalog: Catalog, reference: string): Promise<TokenRow> {
  return (await findToken(catalog.db, reference)) ?? fail("TOKEN_NOT_FOUND", `there is no token ${reference}`);
}

function tokenMessage(row: TokenRow): Token {
  return create(TokenSchema, {
    id: row.id,
    name: row.name,
    role: Role[row.role],
    ...times({
      createTime: row.createTime,
      expireTime: row.expireTime,
      revokeTime: row.revokeTime,
      lastUsedTime: row.lastUsedTime,
    }),
  });
}
