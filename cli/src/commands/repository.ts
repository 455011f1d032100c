// All commands of one noun; what takes more than a call each is beside it.
import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import type { Command } from "commander";
import { Option } from "commander";
import { ListRepositoriesResponseSchema, RepositorySchema } from "@coppice/proto/gen/coppice/control/v1/repository";
import { formatDuration } from "@coppice/proto/kit/duration";
import { formatSize } from "@coppice/proto/kit/size";
import { collectPages } from "../client/pages.ts";
import { addCommand, addGroup, type Execute } from "../command.ts";
import { confirm } from "../input/confirm.ts";
import { formatLocation } from "../input/location.ts";
import { durationOption, hostOption, operationOptions, yesOption } from "../input/options.ts";
import { type OperationOptions, seeThrough } from "../operation/conclude.ts";
import { protoJson } from "../output/proto-json.ts";
import { formatTable } from "../output/table.ts";
import type { Session } from "../session.ts";
import { type AddOptions, addOptions, addRepository } from "./repository/add.ts";
import { describeRepository, reachability } from "./repository/describe.ts";
import { type UpdateOptions, updateOptions, updateRepository } from "./repository/update.ts";

interface CheckOptions extends OperationOptions {
  readonly host?: string;
}

interface CleanOptions extends CheckOptions {
  readonly olderThan?: number;
  readonly dryRun?: boolean;
  readonly yes?: boolean;
}

const defaultCleanAgeMs = 24 * 3_600_000;

const repositoryArgument = ["<repository>", "name or id"] as const;

/** `coppice repository …` */
export function addRepositoryCommands(program: Command, execute: Execute): void {
  const group = addGroup(program, "repository", "where backups are stored", "repo");
  addCommand<AddOptions>(group, execute, {
    name: "add",
    summary: "register a repository",
    arguments: [
      ["<name>", "name for the repository"],
      ["<location>", "HOST:/path, s3://BUCKET/PREFIX or ssh://USER@SERVER[:PORT]/path"],
    ],
    options: addOptions(),
    examples: [
      "coppice repository add main db7:/srv/backups --check",
      "coppice repository add main s3://acme-backups/prod --region eu-central-1 --credentials keys.yaml --check",
      "coppice repository add ceph s3://backups --endpoint https://rgw.example.com --credentials env",
      "coppice repository add vault ssh://backup@vault.example.com/srv/backups --known-hosts known_hosts",
      "coppice repository add safe db7:/srv/safe --recovery-recipient age1… --recovery-identity recovery.txt",
    ],
    run: addRepository,
  });
  addCommand(group, execute, {
    name: "list",
    summary: "list the repositories",
    examples: ["coppice repository list"],
    run: list,
  });
  addCommand(group, execute, {
    name: "get",
    summary: "show a repository",
    arguments: [repositoryArgument],
    examples: ["coppice repository get main"],
    run: get,
  });
  addCommand<UpdateOptions>(group, execute, {
    name: "update",
    summary: "give a repository other credentials or host keys; place and encryption stay",
    arguments: [repositoryArgument],
    options: updateOptions(),
    examples: [
      "coppice repository update main --credentials keys.yaml",
      "coppice repository update vault --known-hosts known_hosts",
    ],
    run: updateRepository,
  });
  addCommand<CheckOptions>(group, execute, {
    name: "check",
    summary: "write, read back and delete a probe in a repository",
    arguments: [repositoryArgument],
    options: [hostOption("try it"), ...operationOptions()],
    examples: ["coppice repository check main", "coppice repository check main --host db8"],
    run: check,
  });
  addCommand<CleanOptions>(group, execute, {
    name: "clean",
    summary: "remove what was never finished: uploads and backups that were cut off",
    arguments: [repositoryArgument],
    options: [
      durationOption(
        "--older-than <age>",
        "only what was begun or last written before (24h)",
        3_600_000,
        31_536_000_000,
      ),
      new Option("--dry-run", "only look, and say what there is"),
      hostOption("do it"),
      yesOption(),
      ...operationOptions(),
    ],
    examples: ["coppice repository clean main --dry-run", "coppice repository clean main --older-than 7d --yes"],
    run: clean,
  });
  addCommand<CheckOptions>(group, execute, {
    name: "rebuild",
    summary: "enter the clusters and backups that a repository holds into the catalog; what is known stays as it is",
    arguments: [repositoryArgument],
    options: [hostOption("read it"), ...operationOptions()],
    examples: ["coppice repository rebuild main", "coppice repository rebuild main --host db8"],
    run: rebuild,
  });
  addCommand(group, execute, {
    name: "remove",
    summary: "forget a repository that holds no backups; its folder is not touched",
    arguments: [repositoryArgument],
    options: [yesOption()],
    examples: ["coppice repository remove main"],
    run: remove,
  });
}

async function list(session: Session): Promise<void> {
  const api = await session.api();
  const { items: repositories } = await collectPages(
    (page) => api.repositories.listRepositories({ page }),
    ({ repositories }) => repositories,
  );
  await session.answer({
    json: () => protoJson(ListRepositoriesResponseSchema, create(ListRepositoriesResponseSchema, { repositories })),
    table: () =>
      repositories.length === 0
        ? "no repositories\n  next: coppice repository add NAME HOST:/path --check   (or s3://BUCKET/PREFIX, ssh://USER@SERVER/path)\n"
        : formatTable(
            [
              { title: "NAME", cut: true },
              { title: "LOCATION", cut: true },
              { title: "REACHABLE" },
              { title: "BACKUPS", right: true },
              { title: "STORED", right: true },
            ],
            repositories.map((repository) => [
              repository.name,
              formatLocation(repository.homeHostName, repository.location),
              reachability(repository),
              String(repository.backups),
              formatSize(repository.storedBytes),
            ]),
          ),
    names: () => repositories.map(({ name }) => name),
  });
}

async function get(session: Session, _options: object, name: string): Promise<void> {
  const api = await session.api();
  const repository = await api.repositories.getRepository({ repository: name });
  await session.answer({
    json: () => protoJson(RepositorySchema, repository),
    table: () => describeRepository(repository, session.now()),
    names: () => [repository.name],
  });
}

async function check(session: Session, options: CheckOptions, repository: string): Promise<number> {
  const api = await session.api();
  const operation = await api.repositories.checkRepository({
    repository,
    host: options.host ?? "",
    requestId: session.newRequestId(),
  });
  return await seeThrough(session, api, operation, options);
}

async function clean(session: Session, options: CleanOptions, name: string): Promise<number> {
  const api = await session.api();
  const repository = await api.repositories.getRepository({ repository: name });
  const age = options.olderThan ?? defaultCleanAgeMs;
  if (!options.dryRun) {
    const what = `what was begun in ${repository.name} more than ${formatDuration(age)} ago and never finished is removed; --dry-run shows it`;
    await confirm(session, { yes: options.yes, what, name: repository.name });
  }
  const operation = await api.repositories.cleanRepository({
    repository: repository.id,
    olderThan: durationFromMs(age),
    dryRun: options.dryRun ?? false,
    host: options.host ?? "",
    requestId: session.newRequestId(),
  });
  return await seeThrough(session, api, operation, options);
}

async function rebuild(session: Session, options: CheckOptions, repository: string): Promise<number> {
  const api = await session.api();
  const operation = await api.repositories.rebuildRepository({
    repository,
    host: options.host ?? "",
    requestId: session.newRequestId(),
  });
  return await seeThrough(session, api, operation, options);
}

async function remove(session: Session, _options: object, name: string): Promise<void> {
  const api = await session.api();
  const repository = await api.repositories.getRepository({ repository: name });
  await api.repositories.deleteRepository({ repository: repository.id, etag: repository.etag });
  const place = formatLocation(repository.homeHostName, repository.location);
  await session.answer({
    json: () => protoJson(RepositorySchema, repository),
    table: () => session.success(`repository ${repository.name} is forgotten; ${place} was not touched`),
    names: () => [repository.name],
  });
}
