import { Code, ConnectError, createConnectRouter } from "@connectrpc/connect";
import {
  compressionBrotli,
  compressionGzip,
  type connectNodeAdapter,
  universalRequestFromNodeRequest,
  universalResponseToNodeResponse,
} from "@connectrpc/connect-node";
import type { UniversalHandler } from "@connectrpc/connect/protocol";
import type { Logger } from "pino";
import { describeRefusal } from "./refusal.ts";

type AdapterOptions = Parameters<typeof connectNodeAdapter>[0];
type RequestHandler = ReturnType<typeof connectNodeAdapter>;

/** As connectNodeAdapter, and what the library refuses before any interceptor sees it has a FailureDetail too. */
export function openAdapter(options: AdapterOptions, log: Logger): RequestHandler {
  const router = createConnectRouter({ acceptCompression: [compressionGzip, compressionBrotli], ...options });
  options.routes(router);
  const handlers = new Map(router.handlers.map((handler) => [handler.requestPath, handler]));
  return (request, response) => {
    const handler = handlers.get(request.url?.split("?", 1)[0] ?? "");
    if (handler === undefined) {
      response.writeHead(404);
      response.end();
      return;
    }
    void answer(handler, options, request, response).catch((error: unknown) => {
      // The client has gone.
      if (ConnectError.from(error).code === Code.Aborted) return;
      log.warn({ err: error, method: `${handler.service.name}/${handler.method.name}` }, "answer not sent");
    });
  };
}

async function answer(
  handler: UniversalHandler,
  { contextValues }: AdapterOptions,
  ...[request, response]: Parameters<RequestHandler>
): Promise<void> {
  const call = universalRequestFromNodeRequest(request, response, undefined, contextValues?.(request));
  await universalResponseToNodeResponse(await describeRefusal(await handler(call)), response);
}
