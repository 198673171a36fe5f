import { mkdtempSync, rmSync } from 'node:fs';
import * as grpc from '@grpc/grpc-js';
import services from '@pulumi/pulumi/proto/provider_grpc_pb.js';
import messages from '@pulumi/pulumi/proto/provider_pb.js';
import structs from 'google-protobuf/google/protobuf/struct_pb.js';
import empty from 'google-protobuf/google/protobuf/empty_pb.js';
import { pino } from 'pino';
import { type LocalAws, startLocalAws } from '../../src/localaws/api/server.ts';
import { kinds } from './kinds.ts';
import { Provider } from './provider.ts';
import { serveProvider } from './server.ts';
import { encode, type Properties } from './values.ts';

const { Struct } = structs;
export const none: ReadonlySet<string> = new Set();
export const toStruct = (properties: Properties, secrets: ReadonlySet<string> = none) => Struct.fromJavaScript(encode(properties, secrets) as any);
/** As it stands on the wire, secrets in their wrapping. */
export const wireOf = (struct: any): Properties => (struct?.toJavaScript() ?? {}) as Properties;
export const urnOf = (token: string, name = 'one') => `urn:pulumi:test::project::kumulus:index:Cluster$${token}::${name}`;

/** Calls the provider as Pulumi's engine does. */
export class Engine {
  private readonly client: any;

  constructor(port: number) {
    this.client = new (services as any).ResourceProviderClient(`127.0.0.1:${port}`, grpc.credentials.createInsecure());
  }

  call<T = any>(method: string, request: unknown): Promise<T> {
    return new Promise((resolve, reject) => this.client[method](request, (error: unknown, response: T) => (error ? reject(error) : resolve(response))));
  }

  close(): void {
    this.client.close();
  }

  async check(token: string, news: Properties, secrets: ReadonlySet<string> = none) {
    const request = new messages.CheckRequest();
    request.setUrn(urnOf(token));
    request.setNews(toStruct(news, secrets));
    const response = await this.call('check', request);
    const failures = response.getFailuresList().map((f: any) => `${f.getProperty()}: ${f.getReason()}`) as string[];
    return { inputs: wireOf(response.getInputs()), failures };
  }

  async create(token: string, inputs: Properties, options: { preview?: boolean; secrets?: ReadonlySet<string> } = {}) {
    const request = new messages.CreateRequest();
    request.setUrn(urnOf(token));
    request.setProperties(toStruct(inputs, options.secrets));
    request.setPreview(options.preview ?? false);
    const response = await this.call('create', request);
    return { id: response.getId() as string, properties: wireOf(response.getProperties()) };
  }

  async diff(token: string, id: string, state: Properties, oldInputs: Properties, news: Properties) {
    const request = new messages.DiffRequest();
    request.setId(id);
    request.setUrn(urnOf(token));
    request.setOlds(toStruct(state));
    request.setOldInputs(toStruct(oldInputs));
    request.setNews(toStruct(news));
    const response = await this.call('diff', request);
    const kindName = (kind: number) => Object.entries(messages.PropertyDiff.Kind).find(([, value]) => value === kind)?.[0];
    return {
      changes: response.getChanges() === messages.DiffResponse.DiffChanges.DIFF_SOME,
      replaces: response.getReplacesList() as string[],
      deleteBeforeReplace: response.getDeletebeforereplace() as boolean,
      detailed: Object.fromEntries(response.getDetaileddiffMap().toArray().map(([path]: [string]) => [path, kindName(response.getDetaileddiffMap().get(path).getKind())])),
    };
  }

  async read(token: string, id: string, inputs: Properties = {}, state: Properties = {}) {
    const request = new messages.ReadRequest();
    request.setId(id);
    request.setUrn(urnOf(token));
    request.setProperties(toStruct(state));
    request.setInputs(toStruct(inputs));
    const response = await this.call('read', request);
    return { id: response.getId() as string, properties: wireOf(response.getProperties()), inputs: wireOf(response.getInputs()) };
  }

  async update(token: string, id: string, state: Properties, oldInputs: Properties, news: Properties, preview = false) {
    const request = new messages.UpdateRequest();
    request.setId(id);
    request.setUrn(urnOf(token));
    request.setOlds(toStruct(state));
    request.setOldInputs(toStruct(oldInputs));
    request.setNews(toStruct(news));
    request.setPreview(preview);
    return wireOf((await this.call('update', request)).getProperties());
  }

  async delete(token: string, id: string, state: Properties): Promise<void> {
    const request = new messages.DeleteRequest();
    request.setId(id);
    request.setUrn(urnOf(token));
    request.setProperties(toStruct(state));
    await this.call('delete', request);
  }

  async configure(settings: Properties) {
    const request = new messages.ConfigureRequest();
    request.setArgs(toStruct(settings));
    return this.call('configure', request);
  }

  cancel(): Promise<unknown> {
    return this.call('cancel', new empty.Empty());
  }
}

export interface Bench extends AsyncDisposable {
  aws: LocalAws;
  engine: Engine;
}

/** The embedded AWS's endpoint without a data plane, and a provider that is set up for it. */
export async function startBench(): Promise<Bench> {
  const directory = mkdtempSync('/tmp/kumulus-provider-');
  const aws = await startLocalAws({ directory, port: 0, log: pino({ level: 'silent' }), dataPlane: 'simulated' });
  const server = await serveProvider(new Provider(kinds), '0.0.0-test');
  const engine = new Engine(server.port);
  await engine.configure({ region: 'us-east-1', endpoint: aws.url, ...aws.rootCredentials });
  return {
    aws,
    engine,
    async [Symbol.asyncDispose]() {
      engine.close();
      server.stop();
      await aws.stop();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
