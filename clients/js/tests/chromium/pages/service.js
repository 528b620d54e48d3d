// The guide's service for analyses, made before anything is connected.
import webSocketService from './services/websocket.service';
import { VideoAnalysisService } from './analysis';

new VideoAnalysisService(webSocketService);
webSocketService.connect(JSON.parse(decodeURIComponent(location.hash.slice(1))).token);
