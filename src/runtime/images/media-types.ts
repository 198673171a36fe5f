/** Media types of images, OCI's and Docker's schema 2, and the shapes behind them. */
export const ociIndex = 'application/vnd.oci.image.index.v1+json';
export const ociManifest = 'application/vnd.oci.image.manifest.v1+json';
export const ociConfig = 'application/vnd.oci.image.config.v1+json';
export const ociLayerGzip = 'application/vnd.oci.image.layer.v1.tar+gzip';
export const ociLayer = 'application/vnd.oci.image.layer.v1.tar';
export const dockerList = 'application/vnd.docker.distribution.manifest.list.v2+json';
export const dockerManifest = 'application/vnd.docker.distribution.manifest.v2+json';

export interface Platform {
  os: string;
  architecture: string;
  variant?: string;
}
export interface Descriptor {
  mediaType: string;
  /** `sha256:…` */
  digest: string;
  size: number;
  platform?: Platform;
  annotations?: Record<string, string>;
  urls?: string[];
}
export interface Manifest {
  schemaVersion: number;
  mediaType?: string;
  config: Descriptor;
  layers: Descriptor[];
}
export interface Index {
  schemaVersion: number;
  mediaType?: string;
  manifests: Descriptor[];
}
/** What an image says about the process to run: the `config` of its configuration, with Docker's names. */
export interface ProcessConfig {
  User?: string;
  Env?: string[];
  Entrypoint?: string[] | null;
  Cmd?: string[] | null;
  WorkingDir?: string;
  StopSignal?: string;
  Volumes?: Record<string, object> | null;
  ExposedPorts?: Record<string, object> | null;
  Labels?: Record<string, string> | null;
}
export interface ImageConfig {
  os: string;
  architecture: string;
  variant?: string;
  created?: string;
  config?: ProcessConfig;
  rootfs: { type: 'layers'; diff_ids: string[] };
  history?: object[];
}

/** The platform of this machine in the words of images. */
export function hostPlatform(): Platform {
  const architecture = { x64: 'amd64', arm64: 'arm64', arm: 'arm', ia32: '386', ppc64: 'ppc64le', s390x: 's390x', riscv64: 'riscv64' }[
    process.arch as string
  ];
  return { os: 'linux', architecture: architecture ?? process.arch };
}

/** The manifest of an index that runs on `platform`; of several, the first. Entries without a platform match last. */
export function selectPlatform(index: Index, platform: Platform): Descriptor | undefined {
  const fits = (d: Descriptor): boolean => d.platform?.os === platform.os && d.platform.architecture === platform.architecture;
  return (
    index.manifests.find((d) => fits(d) && (!platform.variant || d.platform?.variant === platform.variant)) ??
    index.manifests.find(fits) ??
    index.manifests.find((d) => !d.platform)
  );
}
