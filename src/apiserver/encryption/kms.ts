import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { Client, credentials, Metadata } from '@grpc/grpc-js';
import protobuf from 'protobufjs';
import { openWithSeed, type Provider, sealWithSeed } from './providers.ts';

const bytes = (id: number) => ({ type: 'bytes', id });
const text = (id: number) => ({ type: 'string', id });
const annotations = (id: number) => ({ keyType: 'string', type: 'bytes', id });

/** The KMS plugin API v2, and the envelope in which its values are stored. */
const root = protobuf.Root.fromJSON({
  nested: {
    v2: {
      nested: {
        StatusRequest: { fields: {} },
        StatusResponse: { fields: { version: text(1), healthz: text(2), keyId: text(3) } },
        DecryptRequest: { fields: { ciphertext: bytes(1), uid: text(2), keyId: text(3), annotations: annotations(4) } },
        DecryptResponse: { fields: { plaintext: bytes(1) } },
        EncryptRequest: { fields: { plaintext: bytes(1), uid: text(2) } },
        EncryptResponse: { fields: { ciphertext: bytes(1), keyId: text(2), annotations: annotations(3) } },
        EncryptedObject: {
          fields: {
            encryptedData: bytes(1),
            keyID: text(2),
            encryptedDEKSource: bytes(3),
            annotations: annotations(4),
            encryptedDEKSourceType: { type: 'int32', id: 5 },
          },
        },
      },
    },
  },
});
const envelope = root.lookupType('v2.EncryptedObject');

/** encryptedDEKSourceType: the source is an AES-GCM key, or a seed that keys are derived from. */
const seedSource = 1;

interface DataKey {
  seed: Buffer;
  encrypted: Buffer;
  keyId: string;
  annotations: Record<string, Uint8Array>;
}

export interface KmsOptions {
  name: string;
  /** unix:///path of the plugin's socket. */
  endpoint: string;
  /** Of one call; 3 s. */
  timeoutMs?: number;
}

/** How often the plugin is asked whether its key has changed. */
const statusEveryMs = 60_000;

/**
 * Envelope encryption by a KMS plugin, version 2: the plugin encrypts one seed, values are encrypted here with keys derived from
 * it. The seed is made anew when the plugin names another key. Compatible with what kube-apiserver stores.
 */
export class KmsProvider implements Provider {
  readonly prefix: string;
  readonly #client: Client;
  readonly #timeoutMs: number;
  readonly #seeds = new Map<string, Buffer | Promise<Buffer>>();
  readonly #timer: NodeJS.Timeout;
  #current: DataKey | Promise<DataKey> | undefined;
  #keyId = '';

  constructor(o: KmsOptions) {
    this.prefix = `k8s:enc:kms:v2:${o.name}:`;
    this.#timeoutMs = o.timeoutMs ?? 3000;
    this.#client = new Client(o.endpoint.replace(/^unix:\/\/(?!\/)/, 'unix:'), credentials.createInsecure(), { 'grpc.default_authority': 'localhost' });
    this.#timer = setInterval(() => void this.#status().catch(() => {}), statusEveryMs);
    this.#timer.unref();
  }

  encrypt(value: Buffer, key: string): Buffer | Promise<Buffer> {
    const seal = (dataKey: DataKey) =>
      Buffer.from(
        envelope
          .encode({
            encryptedData: sealWithSeed(dataKey.seed, value, key),
            keyID: dataKey.keyId,
            encryptedDEKSource: dataKey.encrypted,
            annotations: dataKey.annotations,
            encryptedDEKSourceType: seedSource,
          })
          .finish(),
      );
    this.#current ??= this.#newDataKey();
    return this.#current instanceof Promise ? this.#current.then(seal) : seal(this.#current);
  }

  decrypt(stored: Buffer, key: string): Buffer | Promise<Buffer> {
    const object = envelope.decode(stored) as any;
    if (object.encryptedDEKSourceType !== seedSource) throw new Error('a value of KMS v2 whose data key is no seed: written by a Kubernetes before 1.28');
    const open = (seed: Buffer) => openWithSeed(seed, Buffer.from(object.encryptedData), key);
    const id = createHash('sha256').update(object.encryptedDEKSource).digest('base64');
    let seed = this.#seeds.get(id);
    if (!seed) {
      seed = this.#call('Decrypt', { ciphertext: object.encryptedDEKSource, uid: randomUUID(), keyId: object.keyID, annotations: object.annotations }).then(
        (answer) => {
          const plain = Buffer.from(answer.plaintext);
          this.#seeds.set(id, plain);
          return plain;
        },
      );
      this.#seeds.set(id, seed);
      seed.catch(() => this.#seeds.delete(id));
    }
    return seed instanceof Promise ? seed.then(open) : open(seed);
  }

  isStale(stored: Buffer): boolean {
    return this.#keyId !== '' && (envelope.decode(stored) as any).keyID !== this.#keyId;
  }

  /** Rejects where the plugin does not answer or is not well. */
  async #status(): Promise<void> {
    const answer = await this.#call('Status', {});
    if (answer.healthz !== 'ok') throw new Error(`the KMS plugin is not well: ${answer.healthz}`);
    if (answer.keyId === this.#keyId) return;
    this.#keyId = answer.keyId;
    this.#current = undefined;
  }

  async #newDataKey(): Promise<DataKey> {
    try {
      if (!this.#keyId) await this.#status();
      const seed = randomBytes(32);
      const answer = await this.#call('Encrypt', { plaintext: seed, uid: randomUUID() });
      const encrypted = Buffer.from(answer.ciphertext);
      this.#keyId = answer.keyId;
      this.#seeds.set(createHash('sha256').update(encrypted).digest('base64'), seed);
      this.#current = { seed, encrypted, keyId: answer.keyId, annotations: answer.annotations ?? {} };
      return this.#current;
    } catch (error) {
      this.#current = undefined;
      throw error;
    }
  }

  #call(method: 'Status' | 'Encrypt' | 'Decrypt', request: object): Promise<any> {
    const [input, output] = [root.lookupType(`v2.${method}Request`), root.lookupType(`v2.${method}Response`)];
    return new Promise((resolve, reject) => {
      this.#client.makeUnaryRequest(
        `/v2.KeyManagementService/${method}`,
        (message: object) => Buffer.from(input.encode(message).finish()),
        (answer: Buffer) => output.decode(answer) as any,
        request,
        new Metadata(),
        { deadline: Date.now() + this.#timeoutMs },
        (error, answer) => (error ? reject(new Error(`KMS plugin ${this.prefix.slice(15, -1)}: ${error.message}`)) : resolve(answer)),
      );
    });
  }

  close(): void {
    clearInterval(this.#timer);
    this.#client.close();
  }
}
