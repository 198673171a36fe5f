import { onMoto } from './elsewhere.ts';
import { firstCluster } from './cluster.steps.ts';

firstCluster(onMoto);
