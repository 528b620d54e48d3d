import webSocketService from './services/websocket.service';

window.service = webSocketService;
webSocketService.connect(JSON.parse(decodeURIComponent(location.hash.slice(1))).token);
