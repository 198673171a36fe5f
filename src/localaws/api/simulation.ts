import type { CloudReports, CloudSource } from '../contract.ts';
import type { Cloud } from './cloud.ts';

export function simulate(_cloud: Cloud, _source: CloudSource, _reports: CloudReports): () => void {
  return () => {};
}
