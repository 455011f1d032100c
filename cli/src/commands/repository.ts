import { create } from "@bufbuild/protobuf";
import type { Command } from "commander";
import { Option } from "commander";
import {
  ListRepositoriesResponseSchema,
  type Repository,
  RepositorySchema,
} from "@coppice/proto/gen/coppice/control/v1/repository";
import { formatSize } from "@coppice/proto/kit/size";
import { collectPages } from "../client/pages.ts";
import { addCommand, addGroup, type Execute } from "../command.ts";
import { formatLocation, parseLocation } from "../input/location.ts";
import { labelOption, operationOptions, yesOption } from "../input/options.ts";
import { type OperationOptions, seeThrough } from "../operation/conclude.ts";
import { formatDetails } from "../output/details.ts";
import { formatRelative } from "../output/elapsed.ts";
import { formatLabels } from "../output/labels.ts";
import { protoJson } from "../output/proto-json.ts";
import { formatTable } from "../output/table.ts";
import { timeOf } from "../output/time.ts";
import type { Session } from "../session.ts";

interface AddOptions {
  readonly check?: boolean;
  readonly label?: Record<string, string>;
}

interface CheckOptions extends OperationOptions {
  readonly host?: string;
}

const repositoryArgument = ["<repository>", "name or id"] as const;

/** `coppice repository …` */
export function addRepositoryCommands(program: Command, execute: Execute): void {
  const group = addGroup(program, "repository", "where backups are stored", "repo");
  addCommand<AddOptions>(group, execute, {
    name: "add",
    summary: "register a repository",
    arguments: [
      ["<name>", "name for the repository"],
      ["<location>", "HOST:/path: a folder on its home host"],
    ],
    options: [new Option("--check", "try it at once: write, read back, delete"), labelOption()],
    examples: ["coppice repository add main db7:/srv/backups --check"],
    run: add,
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
  addCommand<CheckOptions>(group, execute, {
    name: "check",
    summary: "write, read back and delete a probe in a repository",
    arguments: [repositoryArgument],
    options: [new Option("--host <host>", "try it from this host (its home host)"), ...operationOptions()],
    examples: ["coppice repository check main", "coppice repository check main --host db8"],
    run: check,
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

async function add(session: Session, options: AddOptions, name: string, locationText: string): Promise<number> {
  const { homeHost, location } = parseLocation(locationText);
  const api = await session.api();
  const repository = await api.repositories.createRepository({
    name,
    homeHost,
    location,
    labels: options.label ?? {},
    requestId: session.newRequestId(),
  });
  const place = formatLocation(repository.homeHostName, repository.location);
  const added = `repository ${repository.name} is added: ${place}`;
  if (options.check) {
    // The answer is the check's; that the repository is registered already is worth knowing if that fails.
    session.terminal.err(`${added}; trying it\n`);
    const operation = await api.repositories.checkRepository({
      repository: repository.id,
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

const reachability = ({ reachable }: Repository) => (reachable === undefined ? "not tried" : reachable ? "yes" : "no");

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
        ? "no repositories\n  next: coppice repository add NAME HOST:/path --check\n"
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
    table: () =>
      formatDetails([
        ["name", repository.name],
        ["id", repository.id],
        ["labels", formatLabels(repository.labels)],
        ["location", formatLocation(repository.homeHostName, repository.location)],
        ["backups", `${repository.backups}, ${formatSize(repository.storedBytes)}`],
        ["reachable", reachability(repository)],
        ["tried", repository.reachableTime && formatRelative(timeOf(repository.reachableTime), session.now())],
        ["problem", repository.problem],
      ]),
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
