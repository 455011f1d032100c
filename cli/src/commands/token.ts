import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import type { Command } from "commander";
import { Option } from "commander";
import {
  CreateTokenResponseSchema,
  ListTokensResponseSchema,
  Role,
  RoleSchema,
  type Token,
} from "@coppice/proto/gen/coppice/control/v1/token";
import { parseDuration } from "@coppice/proto/kit/duration";
import { collectPages } from "../client/pages.ts";
import { addCommand, addGroup, type Execute } from "../command.ts";
import { formatRelative } from "../output/elapsed.ts";
import { enumLabel } from "../output/enum-label.ts";
import { protoJson } from "../output/proto-json.ts";
import { formatTable } from "../output/table.ts";
import { timeOf } from "../output/time.ts";
import type { Session } from "../session.ts";

const roles = { viewer: Role.VIEWER, operator: Role.OPERATOR, admin: Role.ADMIN } as const;

interface CreateOptions {
  readonly role: keyof typeof roles;
  readonly lifetime?: string;
}

/** `coppice token …` */
export function addTokenCommands(program: Command, execute: Execute): void {
  const group = addGroup(program, "token", "access tokens of people and programs");
  addCommand<CreateOptions>(group, execute, {
    name: "create",
    summary: "make a token; its value is shown once",
    arguments: [["<name>", "name for the token"]],
    options: [
      new Option("--role <role>", "what it may do").choices(Object.keys(roles)).makeOptionMandatory(),
      new Option("--lifetime <duration>", "how long it is good: 12h, 90d (for ever)"),
    ],
    examples: ["coppice token create ci --role operator --lifetime 90d"],
    run: createToken,
  });
  addCommand(group, execute, {
    name: "list",
    summary: "list the tokens, never their values",
    examples: ["coppice token list"],
    run: list,
  });
  addCommand(group, execute, {
    name: "revoke",
    summary: "end a token at once",
    arguments: [["<token>", "name or id"]],
    examples: ["coppice token revoke ci"],
    run: revoke,
  });
}

async function createToken(session: Session, options: CreateOptions, name: string): Promise<void> {
  const lifetime = options.lifetime === undefined ? undefined : durationFromMs(parseDuration(options.lifetime));
  const api = await session.api();
  const answer = await api.tokens.createToken({ name, role: roles[options.role], ...(lifetime && { lifetime }) });
  const { token } = answer;
  const end = token?.expireTime
    ? `expires ${formatRelative(timeOf(token.expireTime), session.now())}`
    : "never expires";
  await session.answer({
    json: () => protoJson(CreateTokenResponseSchema, answer),
    table: () =>
      `${session.success(`token ${name} (${options.role}, ${end}); this is shown only once:`)}${answer.value}\n`,
    names: () => [name],
  });
}

function tokenState({ revokeTime, expireTime }: Token, now: Date): string {
  if (revokeTime) return `revoked ${formatRelative(timeOf(revokeTime), now)}`;
  const expires = timeOf(expireTime);
  if (!expires) return "good";
  return `${expires <= now ? "expired" : "expires"} ${formatRelative(expires, now)}`;
}

async function list(session: Session): Promise<void> {
  const api = await session.api();
  const { items: tokens } = await collectPages(
    (page) => api.tokens.listTokens({ page }),
    ({ tokens }) => tokens,
  );
  const now = session.now();
  await session.answer({
    json: () => protoJson(ListTokensResponseSchema, create(ListTokensResponseSchema, { tokens })),
    table: () =>
      formatTable(
        [
          { title: "NAME", cut: true },
          { title: "ROLE" },
          { title: "STATE" },
          { title: "MADE" },
          { title: "LAST USED" },
        ],
        tokens.map((token) => [
          token.name,
          enumLabel(RoleSchema, token.role),
          tokenState(token, now),
          formatRelative(timeOf(token.createTime), now),
          formatRelative(timeOf(token.lastUsedTime), now),
        ]),
      ),
    names: () => tokens.map(({ name }) => name),
  });
}

async function revoke(session: Session, _options: object, token: string): Promise<void> {
  const api = await session.api();
  await api.tokens.revokeToken({ token });
  await session.answer({
    json: () => ({}),
    table: () => session.success(`token ${token} is revoked`, { next: "coppice token list" }),
    names: () => [token],
  });
}
