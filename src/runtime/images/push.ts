import type { Logger } from 'pino';
import { pino } from 'pino';
import { ociManifest } from './media-types.ts';
import type { ImageSource } from './oci-tar.ts';
import { type RegistryAuth, Repository } from './registry.ts';

/**
 * Pushes an image: blobs that the registry lacks, two at a time, then the manifest under `tag`. `registryUrl` may lack its scheme; then
 * `plainHttp` decides. Resolves to the manifest's digest. Throws RegistryError for what the registry refuses.
 */
export async function pushImage(o: {
  registryUrl: string;
  repository: string;
  tag: string;
  auth?: RegistryAuth;
  source: ImageSource;
  plainHttp?: boolean;
  signal?: AbortSignal;
  log?: Logger;
}): Promise<{ digest: string }> {
  const url = /^https?:\/\//.test(o.registryUrl) ? o.registryUrl : `${o.plainHttp ? 'http' : 'https'}://${o.registryUrl}`;
  const repository = new Repository(new URL(url), o.repository, o.auth, o.log ?? pino({ enabled: false }));
  const { manifest, manifestBytes, manifestDigest } = o.source;
  const blobs = [...new Map([manifest.config, ...manifest.layers].map((b) => [b.digest, b])).values()];
  const worker = async (): Promise<void> => {
    for (let blob = blobs.shift(); blob; blob = blobs.shift()) {
      const { digest, size } = blob;
      if (await repository.hasBlob(digest, o.signal)) continue;
      await repository.putBlob(digest, size, () => o.source.blob(digest), o.signal);
    }
  };
  await Promise.all([worker(), worker()]);
  await repository.putManifest(o.tag, manifest.mediaType ?? ociManifest, manifestBytes, o.signal);
  return { digest: manifestDigest };
}
